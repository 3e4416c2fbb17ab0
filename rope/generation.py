"""How long is the request of each row, and what if its frequencies change under keys that are cached?

Only for schemes that depend on the length, outside of training. Cached keys are unturned, so any frequencies
can turn them; but what a deeper layer cached was computed under the frequencies of then. So when those of a
row change, the tokens so far are run once more: LongRoPE's switch costs one such pass, dynamic NTK one a
token, unless the caller states `lengths` [B], how long each request may become, and nothing ever changes.
Tokens that assisted generation only proposes count as tokens of their request.
"""

from __future__ import annotations

import inspect
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


class Requests:
    """Tell attention the length of each row's request, and refill a cache when its frequencies change.

    `before` and `after` are forward hooks of the decoder that owns the layers. What a cache was filled with
    is its `_ropewalk`: the fingerprints of each row's frequencies, and the ids and positions, [2, B, N], with
    id -1 for what was given as an embedding.
    """

    def __init__(self, record: Installed) -> None:
        self.record = record
        self.stated: Tensor | int | None = None
        "tokens [B] or for all rows, where a forward itself states no lengths"
        self._asked = 0
        self._filled: tuple[tuple[str, ...], Tensor] | None = None
        self._witness: tuple[Any, Tensor] | None = None
        "a layer of a cache that is refilled, and its keys before"

    def before(self, decoder: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Add `lengths` [B, 1] to a forward; a forward with `attend` brings its own."""
        if kwargs.get("attend") is not None:
            return None
        by_place = inspect.signature(decoder.forward).bind_partial(*args).arguments if args else {}
        kwargs = by_place | kwargs
        ids, positions = kwargs.get("input_ids"), kwargs.get("position_ids")
        if ids is None:
            ids = torch.full_like(kwargs["inputs_embeds"][..., 0], -1, dtype=torch.long)
        cache = _given_cache(kwargs)
        past = int(cache.get_seq_length()) if cache is not None else 0
        stop = past + ids.shape[1]
        positions = torch.arange(past, stop, device=ids.device) if positions is None else positions
        new = torch.stack((ids, positions.expand_as(ids)))
        stated = self.stated if kwargs.get("lengths") is None else kwargs["lengths"]
        lengths = _request_lengths(stated, kwargs.get("attention_mask"), new[1], stop)
        kwargs["lengths"] = lengths[:, None]
        nothing = (), new[..., :0]
        then, known = getattr(cache, "_ropewalk", nothing) if past else nothing
        now = tuple(self.record.at_length(FULL, n).fingerprint for n in lengths.tolist())
        whole = torch.cat((known, new), dim=-1)
        self._asked, self._filled, self._witness = ids.shape[1], (now, whole), None
        if past and then != now:
            kwargs |= self._refill(cache, past, whole, kwargs.get("attention_mask"))
            kwargs.pop("cache_position", None)  # before 5.4: the slots of the tokens asked for, not of all
        return (), kwargs

    def _refill(self, cache: Any, past: int, whole: Tensor, mask: Any) -> dict[str, Any]:
        """Empty the cache and return the arguments that run all tokens of it again."""
        known = 0 if (whole[0] < 0).any() else whole.shape[-1] - self._asked
        if known != past:
            raise RopeError(
                f"rope.{self.record.scheme.name}: a cache must have been filled by this model from "
                "input_ids and not been cropped (assisted generation does so) when frequencies change, got "
                f"{past} tokens in it and {known} known; {CURE}"
            )
        # No frequency that changes has touched these keys: only layers with a sliding window come before.
        layer = next((layer for layer in cache.layers if not layer.is_sliding), cache.layers[0])
        self._witness = layer, layer.keys[:, :, :past].clone()
        cache.reset()
        for layer in cache.layers:  # transformers before 5.18 leaves zeros in those that grow
            if isinstance(layer, DynamicLayer):
                layer.keys = layer.values = None
                layer.is_initialized = False
        # `generate` may have prepared masks of the last queries: a decoder makes those of all from padding.
        mask = next(iter(mask.values())) if isinstance(mask, dict) else mask
        padding = mask.arguments.get("attention_mask") if isinstance(mask, LazyMask) else mask
        return {"input_ids": whole[0], "position_ids": whole[1], "attention_mask": padding}

    def after(self, decoder: nn.Module, args: Any, kwargs: dict[str, Any], output: Any) -> Any:
        """Remember what the cache holds, and return only the tokens that were asked for."""
        if kwargs.get("attend") is not None:
            return None
        if self._witness is not None:
            self._check_same_rows(*self._witness)
            self._witness = None
        cache = _given_cache(kwargs)
        cache = getattr(output, CACHE) if cache is None else cache
        if cache is not None:
            cache._ropewalk = self._filled
        output.last_hidden_state = output.last_hidden_state[:, -self._asked :]
        if output.hidden_states is not None:
            output.hidden_states = tuple(states[:, -self._asked :] for states in output.hidden_states)
        return output

    def _check_same_rows(self, layer: Any, keys: Tensor) -> None:
        """Refuse rows that changed places, as in beam search, by the keys of a layer before and after."""
        past, again = keys.shape[2], layer.keys
        kept = again.shape[2] >= past + self._asked  # else a window has closed on the first ones
        if kept and not torch.allclose(again[:, :, :past], keys, rtol=1e-2, atol=1e-2):
            raise RopeError(
                f"rope.{self.record.scheme.name}: the rows of a cache must keep their places, got a batch "
                f"whose rows were reordered (beam search does so); use num_beams=1, or {CURE}"
            )


def _given_cache(kwargs: dict[str, Any]) -> Any:
    """Return the cache that a forward was given, under the name of today or the one before, or None."""
    return kwargs.get(CACHE, kwargs.get("past_key_values"))


def _request_lengths(stated: Any, mask: Any, positions: Tensor, stop: int) -> Tensor:
    """Return the tokens of each row's own request so far, [B], or those the caller stated."""
    if stated is None:
        padded = isinstance(mask, Tensor) and mask.ndim == 2
        return mask[:, :stop].sum(1) if padded else positions[:, -1] + 1
    rows, stated = len(positions), torch.as_tensor(stated, device=positions.device).reshape(-1)
    if rows % len(stated):  # `generate` may repeat every request
        raise RopeError(
            f"rope.lengths: must be one number, or one for each of {rows} requests, got {len(stated)}; "
            "state the tokens each row may become"
        )
    return stated.repeat_interleave(rows // len(stated))
