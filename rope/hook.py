"""What happens inside attention? Turn q and k here, once, then attend: by the caller's function or by SDPA.

Registered with transformers as "ropewalk", with a mask of the same name that builds nothing until it is
asked: a 4-D mask of a million tokens would be a terabyte, and training never needs one.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask
from transformers.modeling_utils import AttentionInterface

from .bands import BandedAttention
from .rotation import Rotary
from .scheme import RopeError

NAME = "ropewalk"
Attend = Callable[..., Tensor]
BY_PLACES = "cache_position" in inspect.signature(sdpa_mask).parameters
"transformers before 5.4 tells a mask the slots of its queries, not how many there are and where they start"


class LazyMask:
    """Hold the arguments of a mask; a call builds it, once for all layers, by transformers' `sdpa_mask`."""

    ndim = 4
    "what `generate` asks of a mask that it prepared itself, for a static cache"

    def __init__(self, **arguments: Any) -> None:
        if (places := arguments.pop("cache_position", None)) is not None:
            arguments |= {"q_offset": places[0], "q_length": len(places), "device": places.device}
        # A static cache counts its tokens in place: read now what would have moved on when the mask is built.
        self.arguments: dict[str, Any] = arguments | {"q_offset": int(arguments.get("q_offset", 0))}
        self._built: list[Tensor | None] = []

    def contiguous(self) -> LazyMask:
        """Return itself: `generate` asks this of prepared masks too."""
        return self

    def __call__(self) -> Tensor | None:
        """Return a boolean [B, 1, S, T], or None where plain causal attention is meant."""
        if not self._built:
            self._built.append(sdpa_mask(**self._asked()))
        return self._built[0]

    def _asked(self) -> dict[str, Any]:
        """Return the arguments in the words of the installed transformers."""
        if not BY_PLACES:
            return self.arguments
        asked = dict(self.arguments)
        start, length = asked.pop("q_offset"), asked.pop("q_length")
        places = torch.arange(start, start + length, device=asked.pop("device", None))
        return asked | {"cache_position": places}

    @property
    def last_slot(self) -> int:
        """Return the cache slot of the last query among the keys at hand."""
        asked = self.arguments
        return int(asked["q_offset"] + asked["q_length"] - 1 - asked.get("kv_offset", 0))


def lazy_mask(**arguments: Any) -> LazyMask:
    """Return a mask that is built only where it is used."""
    # `generate` with a static cache prepares masks before the model asks for them.
    given = arguments.get("attention_mask")
    return given if isinstance(given, LazyMask) else LazyMask(**arguments)


def attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: LazyMask | Tensor | None,
    *,
    scaling: float | None = None,
    dropout: float = 0.0,
    position_ids: Tensor | None = None,
    attend: Attend | None = None,
    lengths: Tensor | None = None,
    sliding_window: int | None = None,
    **rest: Any,
) -> tuple[Tensor, Tensor | None]:
    """Turn query [B, Hq, S, D] and key [B, Hkv, T, D] at `position_ids` [B or 1, S]; attend: [B, S, Hq, D].

    With `attend`, that function alone decides who attends to whom and no mask is built. Without it,
    transformers' SDPA runs on the mask it would have built itself. A cache (T > S) holds unturned keys at
    contiguous positions that end at the query's last one; positions with gaps cannot be cached. `lengths`
    [B or 1, 1 or S] is the length of the whole sequence of each token.
    """
    rotary = getattr(module, "rotary", None)
    scaling = float(query.shape[-1] ** -0.5) if scaling is None else scaling
    if isinstance(rotary, BandedAttention):
        return _banded(module, rotary, query, key, value, attention_mask, position_ids, attend, scaling)
    if not isinstance(rotary, Rotary):
        raise RopeError(
            f"attention: every layer must carry a scheme, got none on {type(module).__name__}; "
            "call rope.install(model)"
        )
    if position_ids is None or position_ids.is_floating_point():
        got = None if position_ids is None else position_ids.dtype
        raise RopeError(f"attention: position_ids must be whole numbers, got {got}; pass int64 to the model")
    last_slot = _last_slot(attention_mask, key)
    query, key = rotary(query, key, position_ids, last_slot=last_slot, dtype=value.dtype, lengths=lengths)
    if attend is not None:
        window = {} if sliding_window is None else {"window": sliding_window}
        return attend(query, key, value, scaling=scaling, layer=module.layer_idx, **window), None
    mask = attention_mask() if isinstance(attention_mask, LazyMask) else attention_mask
    return sdpa_attention_forward(module, query, key, value, mask, dropout=dropout, scaling=scaling, **rest)


def _banded(
    module: nn.Module,
    banded: BandedAttention,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: LazyMask | Tensor | None,
    positions: Tensor | None,
    attend: Attend | None,
    scaling: float,
) -> tuple[Tensor, None]:
    """Attend by a scheme of bands, which turns q and k itself: each row's request is one span of slots."""
    if attend is not None:
        return attend(query, key, value, scaling=scaling, layer=module.layer_idx, kernel=banded), None
    stop = _last_slot(mask, key) + 1
    if isinstance(mask, Tensor):
        raise RopeError(
            f"attention: a {banded.scheme.name} model must be given a mask of padding [B, T], got a tensor "
            f"{list(mask.shape)}; leave attention_mask out, or pass the one of the tokenizer"
        )
    padding = mask.arguments.get("attention_mask") if mask is not None else None
    spans = request_spans(padding, key.shape[0], stop)
    _check_contiguous(positions, spans, stop, banded.scheme.name)
    return banded(query, key[:, :, :stop], value[:, :, :stop], spans, scaling).transpose(1, 2), None


def request_spans(padding: Tensor | None, rows: int, stop: int) -> list[list[tuple[int, int]]]:
    """Return the half-open span of slots that each row's request fills, given its padding mask [B, T]."""
    if padding is None:
        return [[(0, stop)]] * rows
    real = padding[:, :stop].bool().long()
    first, last = real.argmax(dim=1), (stop - real.flip(1).argmax(dim=1)) * real.any(dim=1)
    holes = last - first - real.sum(1)
    if holes.any():
        raise RopeError(
            f"attention: attention_mask must mask padding before and after a request only, got "
            f"{int(holes.max())} masked tokens inside one; remove them from the batch"
        )
    return [[span] for span in zip(first.tolist(), last.tolist(), strict=True)]


def _check_contiguous(
    positions: Tensor | None, spans: list[list[tuple[int, int]]], stop: int, name: str
) -> None:
    """Refuse positions [B or 1, S] that skip or start again inside a request, where places would be wrong."""
    if positions is None or positions.shape[1] == 1:
        return
    past = stop - positions.shape[1]
    for row, [(first, last)] in enumerate(spans):
        own = positions[row % len(positions), max(0, first - past) : last - past]
        if (own.diff() != 1).any():
            raise RopeError(
                f"attention: position_ids of a {name} model must rise by 1 inside a request, got steps "
                f"{own.diff().unique().tolist()}; leave position_ids out, or pass packed documents with "
                "attend"
            )


def _last_slot(mask: LazyMask | Tensor | None, key: Tensor) -> int:
    """Return the slot of the last query among the keys at hand."""
    return mask.last_slot if isinstance(mask, LazyMask) else key.shape[2] - 1


class IdentityRotation(nn.Module):
    """Stand in for a model's rotary embedding and turn nothing: the turning is done in `attention`."""

    def __init__(self, head_dim: int, config: Any) -> None:
        super().__init__()
        self.head_dim = head_dim
        self.config = config

    def forward(
        self, x: Tensor, position_ids: Tensor | None = None, layer_type: str | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return cos = 1 and sin = 0, [1, 1, head_dim], to be broadcast over batch and sequence."""
        if self.config._attn_implementation != NAME:
            raise RopeError(
                f"model: attn_implementation must stay {NAME}, which turns q and k, got "
                f"{self.config._attn_implementation}; call rope.install again, or load the model anew"
            )
        cos = torch.ones((1, 1, self.head_dim), dtype=x.dtype, device=x.device)
        return cos, torch.zeros_like(cos)


AttentionInterface.register(NAME, attention)
AttentionMaskInterface.register(NAME, lazy_mask)
