"""How long is the request of each row, and what if its frequencies change under keys that are cached?

Only for schemes that depend on the length, outside of training. Cached keys are unturned, so any frequencies
can turn them; but what a deeper layer cached was computed under the frequencies of then. So when those of a
row change, the tokens so far are run once more: LongRoPE's switch costs one such pass, dynamic NTK one a
token, unless the caller states `lengths` [B], how long each request may become, and nothing ever changes.
Tokens that assisted generation only proposes count as tokens of their request.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers.cache_utils import DynamicLayer
from transformers.modeling_outputs import BaseModelOutputWithPast

from .families import FULL
from .hook import LazyMask
from .record import Installed
from .scheme import RopeError

CACHE = "cache" if hasattr(BaseModelOutputWithPast, "cache") else "past_key_values"
"what transformers calls a cache, in a forward and in its output: `cache` since 5.24"
CURE = "pass lengths, how long each request may become (around generate: rope.stated_lengths)"
"what makes frequencies that never change"


@dataclass(frozen=True, kw_only=True)
class Filled:
    """Record what a cache was filled with."""

    frequencies: tuple[str, ...]
    "fingerprint of each row's"
    tokens: Tensor | None
    "[B, N]; None where it was filled from embeddings"
    positions: Tensor
    "[B or 1, N]"


class Requests:
    """Tell attention the length of each row's request, and refill a cache when its frequencies change.

    `before` and `after` are forward hooks of the decoder that owns the layers.
    """

    def __init__(self, record: Installed) -> None:
        self.record = record
        self.stated: Tensor | int | None = None
        "tokens [B] or for all rows, where a forward itself states no lengths"
        self._asked = 0
        self._filled: Filled | None = None
        self._witness: tuple[int, Tensor] | None = None

    def before(self, decoder: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Add `lengths` [B, 1] to a forward; a forward with `attend` brings its own."""
        if kwargs.get("attend") is not None:
            return None
        kwargs = (_by_name(decoder, args) if args else {}) | kwargs
        tokens = kwargs.get("input_ids")
        given = tokens if tokens is not None else kwargs["inputs_embeds"]
        cache = _given_cache(kwargs)
        past = int(cache.get_seq_length()) if cache is not None else 0
        positions = kwargs.get("position_ids")
        if positions is None:
            positions = torch.arange(past, past + given.shape[1], device=given.device)[None]
        if kwargs.get("lengths") is None:
            kwargs["lengths"] = self.stated
        lengths = request_lengths(kwargs, positions, past + given.shape[1], given.shape[0])
        now = tuple(self.record.at_length(FULL, n).fingerprint for n in lengths.tolist())
        kwargs["lengths"] = lengths[:, None]
        before = getattr(cache, "_ropewalk", None) if past else None
        self._asked, self._witness = given.shape[1], None
        self._filled = _grown(before, tokens, positions, now) if before or not past else None
        if past and (before is None or before.frequencies != now):
            kwargs |= self._refill(cache, past, kwargs.get("attention_mask"))
            kwargs.pop("cache_position", None)  # before 5.4: the slots of the tokens asked for, not of all
        return (), kwargs

    def _refill(self, cache: Any, past: int, mask: Any) -> dict[str, Any]:
        """Empty the cache and return the arguments that run all tokens of it again."""
        whole = self._filled
        known = 0 if whole is None or whole.tokens is None else whole.tokens.shape[1] - self._asked
        if whole is None or known != past:
            raise RopeError(
                f"rope.{self.record.scheme.name}: a cache must have been filled by this model from "
                "input_ids and not been cropped (assisted generation does so) when frequencies change, got "
                f"{past} tokens in it and {known} known; {CURE}"
            )
        # No frequency that changes has touched these keys: only layers with a sliding window come before.
        place = next((i for i, layer in enumerate(cache.layers) if not layer.is_sliding), 0)
        self._witness = place, cache.layers[place].keys[:, :, :past].clone()
        _empty(cache)
        tokens = {"input_ids": whole.tokens, "position_ids": whole.positions}
        return tokens | {"attention_mask": _padding(mask)}

    def after(self, decoder: nn.Module, args: Any, kwargs: dict[str, Any], output: Any) -> Any:
        """Remember what the cache holds, and return only the tokens that were asked for."""
        if kwargs.get("attend") is not None:
            return None
        cache = _given_cache(kwargs)
        cache = getattr(output, CACHE) if cache is None else cache
        if self._witness is not None:
            self._check_same_rows(cache, *self._witness)
        if cache is not None and self._filled is not None:
            cache._ropewalk = self._filled
        output.last_hidden_state = output.last_hidden_state[:, -self._asked :]
        if output.hidden_states is not None:
            output.hidden_states = tuple(states[:, -self._asked :] for states in output.hidden_states)
        return output

    def _check_same_rows(self, cache: Any, place: int, keys: Tensor) -> None:
        """Refuse rows that changed places, as in beam search, by the keys of a layer before and after."""
        past, again = keys.shape[2], cache.layers[place].keys
        kept = again.shape[2] >= past + self._asked  # else a window has closed on the first ones
        if kept and not torch.allclose(again[:, :, :past], keys, rtol=1e-2, atol=1e-2):
            raise RopeError(
                f"rope.{self.record.scheme.name}: the rows of a cache must keep their places, got a batch "
                f"whose rows were reordered (beam search does so); use num_beams=1, or {CURE}"
            )


def _given_cache(kwargs: Mapping[str, Any]) -> Any:
    """Return the cache that a forward was given, under the name of today or the one before, or None."""
    return kwargs.get(CACHE, kwargs.get("past_key_values"))


def _empty(cache: Any) -> None:
    """Let a cache forget every token; transformers before 5.18 leaves zeros in the layers that grow."""
    cache.reset()
    for layer in cache.layers:
        if isinstance(layer, DynamicLayer):
            layer.keys = layer.values = None
            layer.is_initialized = False


def request_lengths(kwargs: dict[str, Any], positions: Tensor, stop: int, rows: int) -> Tensor:
    """Return the tokens of each row's own request so far, [B], or those the caller stated."""
    stated, mask = kwargs.get("lengths"), kwargs.get("attention_mask")
    if stated is not None:
        return _one_each(torch.as_tensor(stated, device=positions.device), rows)
    if isinstance(mask, Tensor) and mask.ndim == 2:
        return mask[:, :stop].sum(1)
    return (positions[:, -1] + 1).expand(rows)


def _one_each(stated: Tensor, rows: int) -> Tensor:
    """Return stated lengths for each row of a batch, in which `generate` may repeat every request."""
    stated = stated.reshape(-1)
    if rows % len(stated):
        raise RopeError(
            f"rope.lengths: must be one number, or one for each of {rows} requests, got {len(stated)}; "
            "state the tokens each row may become"
        )
    return stated.repeat_interleave(rows // len(stated))


def _by_name(decoder: nn.Module, args: tuple[Any, ...]) -> dict[str, Any]:
    """Return the positional arguments of a forward by their names."""
    return inspect.signature(decoder.forward).bind_partial(*args).arguments


def _grown(
    before: Filled | None, tokens: Tensor | None, positions: Tensor, frequencies: tuple[str, ...]
) -> Filled:
    """Append tokens and their positions to what a cache was filled with."""
    if before is None:
        return Filled(tokens=tokens, positions=positions, frequencies=frequencies)
    rows = max(before.positions.shape[0], positions.shape[0])
    at = torch.cat((before.positions.expand(rows, -1), positions.expand(rows, -1)), dim=1)
    known = before.tokens is not None and tokens is not None
    joined = torch.cat((before.tokens, tokens), dim=1) if known else None  # pyright: ignore[reportArgumentType]
    return Filled(tokens=joined, positions=at, frequencies=frequencies)


def _padding(mask: Any) -> Any:
    """Return what `generate` prepared masks of the last queries from, for a decoder to make those of all."""
    mask = next(iter(mask.values())) if isinstance(mask, dict) else mask
    return mask.arguments.get("attention_mask") if isinstance(mask, LazyMask) else mask
