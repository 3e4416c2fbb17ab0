"""How long is the request of each row, and what if its frequencies change under keys that are cached?

Only for schemes that depend on the length, outside of training. Cached keys are unturned, so any frequencies
can turn them; but what a deeper layer cached was computed under the frequencies of then. So when those of a
row change, the tokens so far are run once more: LongRoPE's switch costs one such pass, dynamic NTK one a
token, unless the caller states `lengths` [B], how long each request may become, and nothing ever changes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from .attention import LazyMask
from .base import RopeError
from .rotation import ByLength


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

    def __init__(self, by_length: ByLength) -> None:
        self.by_length = by_length
        self._asked = 0
        self._filled: Filled | None = None
        self._first_keys: Tensor | None = None

    def before(self, decoder: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Add `lengths` [B, 1] to a forward; a forward with `attend` brings its own."""
        if kwargs.get("attend") is not None:
            return None
        kwargs = kwargs | ({"input_ids": args[0]} if args else {})
        tokens = kwargs.get("input_ids")
        given = tokens if tokens is not None else kwargs["inputs_embeds"]
        cache = kwargs.get("past_key_values")
        past = int(cache.get_seq_length()) if cache is not None else 0
        positions = kwargs.get("position_ids")
        if positions is None:
            positions = torch.arange(past, past + given.shape[1], device=given.device)[None]
        lengths = request_lengths(kwargs, positions, past + given.shape[1], given.shape[0])
        now = tuple(self.by_length(n).fingerprint for n in lengths.tolist())
        kwargs["lengths"] = lengths[:, None]
        before = getattr(cache, "_ropewalk", None) if past else None
        self._asked, self._first_keys = given.shape[1], None
        self._filled = _grown(before, tokens, positions, now) if before or not past else None
        if past and (before is None or before.frequencies != now):
            kwargs |= self._refill(cache, past, kwargs.get("attention_mask"))
        return (), kwargs

    def _refill(self, cache: Any, past: int, mask: Any) -> dict[str, Any]:
        """Empty the cache and return the arguments that run all tokens of it again."""
        whole = self._filled
        if whole is None or whole.tokens is None or whole.tokens.shape[1] != past + self._asked:
            raise RopeError(
                f"rope.{self.by_length.scheme.name}: a cache must have been filled by this model from "
                f"input_ids, got {past} tokens that are not known; pass lengths, how long each request may "
                "become, from the start"
            )
        layer = cache.layers[0]
        self._first_keys = None if layer.is_sliding else layer.keys[:, :, :past].clone()
        cache.reset()
        tokens = {"input_ids": whole.tokens, "position_ids": whole.positions}
        if isinstance(mask, dict):
            return tokens | {"attention_mask": {kind: _over(m, past) for kind, m in mask.items()}}
        return tokens | {"attention_mask": _over(mask, past)}

    def after(self, decoder: nn.Module, args: Any, kwargs: dict[str, Any], output: Any) -> Any:
        """Remember what the cache holds, and return only the tokens that were asked for."""
        if kwargs.get("attend") is not None:
            return None
        cache = output.past_key_values
        if self._first_keys is not None:
            self._check_same_rows(cache)
        if cache is not None and self._filled is not None:
            cache._ropewalk = self._filled
        output.last_hidden_state = output.last_hidden_state[:, -self._asked :]
        return output

    def _check_same_rows(self, cache: Any) -> None:
        """Refuse rows that changed places, as in beam search: the first layer's keys know no frequency."""
        assert self._first_keys is not None
        again = cache.layers[0].keys[:, :, : self._first_keys.shape[2]]
        if not torch.allclose(again, self._first_keys, rtol=1e-2, atol=1e-2):
            raise RopeError(
                f"rope.{self.by_length.scheme.name}: the rows of a cache must keep their places, got a batch "
                "whose rows were reordered (beam search does so); use num_beams=1, or pass lengths from the "
                "start"
            )


def request_lengths(kwargs: dict[str, Any], positions: Tensor, stop: int, rows: int) -> Tensor:
    """Return the tokens of each row's own request so far, [B], or those the caller stated."""
    stated, mask = kwargs.get("lengths"), kwargs.get("attention_mask")
    if stated is not None:
        return torch.as_tensor(stated, device=positions.device).expand(rows)
    if isinstance(mask, Tensor) and mask.ndim == 2:
        return mask[:, :stop].sum(1)
    return (positions[:, -1] + 1).expand(rows)


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


def _over(mask: Any, past: int) -> Any:
    """Return the mask of all queries, where `generate` prepared that of the last ones."""
    return mask.from_the_start(past) if isinstance(mask, LazyMask) else mask
