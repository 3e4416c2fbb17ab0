"""What happens inside attention? Turn q and k here, once, then attend: by the caller's function or by SDPA.

Registered with transformers as "ropewalk", with a mask of the same name that builds nothing until it is
asked: a 4-D mask of a million tokens would be a terabyte, and training never needs one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask
from transformers.modeling_utils import AttentionInterface

from .base import RopeError
from .rotation import Rotary

NAME = "ropewalk"
Attend = Callable[..., Tensor]


class LazyMask:
    """Hold the arguments of a mask; a call builds it, once for all layers, by transformers' `sdpa_mask`."""

    ndim = 4
    "what `generate` asks of a mask that it prepared itself, for a static cache"

    def __init__(self, **arguments: Any) -> None:
        # A static cache counts its tokens in place: read now what would have moved on when the mask is built.
        self.arguments: dict[str, Any] = arguments | {"q_offset": int(arguments.get("q_offset", 0))}
        self._built: list[Tensor | None] = []

    def contiguous(self) -> LazyMask:
        """Return itself: `generate` asks this of prepared masks too."""
        return self

    def __call__(self) -> Tensor | None:
        """Return a boolean [B, 1, S, T], or None where plain causal attention is meant."""
        if not self._built:
            self._built.append(sdpa_mask(**self.arguments))
        return self._built[0]

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
    **rest: Any,
) -> tuple[Tensor, Tensor | None]:
    """Turn query [B, Hq, S, D] and key [B, Hkv, T, D] at `position_ids` [B or 1, S]; attend: [B, S, Hq, D].

    With `attend`, that function alone decides who attends to whom and no mask is built. Without it,
    transformers' SDPA runs on the mask it would have built itself. A cache (T > S) holds unturned keys at
    contiguous positions that end at the query's last one; positions with gaps cannot be cached.
    """
    rotary = getattr(module, "rotary", None)
    if not isinstance(rotary, Rotary):
        raise RopeError(
            f"attention: every layer must carry a scheme, got none on {type(module).__name__}; "
            "call rope.install(model)"
        )
    if position_ids is None or position_ids.is_floating_point():
        got = None if position_ids is None else position_ids.dtype
        raise RopeError(f"attention: position_ids must be whole numbers, got {got}; pass int64 to the model")
    last_slot = attention_mask.last_slot if isinstance(attention_mask, LazyMask) else key.shape[2] - 1
    query, key = rotary(query, key, position_ids, last_slot=last_slot, dtype=value.dtype)
    if attend is not None:
        scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
        return attend(query, key, value, scaling=scaling, layer=module.layer_idx), None
    mask = attention_mask() if isinstance(attention_mask, LazyMask) else attention_mask
    return sdpa_attention_forward(module, query, key, value, mask, dropout=dropout, scaling=scaling, **rest)


class IdentityRotation(nn.Module):
    """Stand in for a model's rotary embedding and turn nothing: the turning is done in `attention`."""

    def __init__(self, head_dim: int, config: Any) -> None:
        super().__init__()
        self.head_dim = head_dim
        self.config = config

    def forward(self, x: Tensor, position_ids: Tensor | None = None) -> tuple[Tensor, Tensor]:
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
