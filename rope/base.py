"""What does a model bring to its position encoding? One frozen `Base` for each kind of layer.

Every scheme computes from a `Base` and from nothing else; `ropewalk.rope.hf` makes one from a config.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from .scheme import Scheme


class RopeError(ValueError):
    """A setting, config or model that cannot be used, with what must hold and how to get there."""


@dataclass(frozen=True, kw_only=True)
class Base:
    """Describe the rotary position encoding of one layer type, before any scheme."""

    head_dim: int
    "channels of one attention head"
    rotary_dim: int
    "channels of a head that rotate (even, at most head_dim); the rest carry no position"
    theta: float
    "RoPE base of the unscaled frequencies"
    original_length: int
    "tokens; the window in which the unscaled frequencies were pretrained"
    trained_length: int
    "tokens; the window the weights were last trained at"
    query_heads: int
    kv_heads: int
    window: int | None = None
    "tokens that a layer of this type sees, its own included; None: all"
    current: Scheme
    "the scheme the model carries, its factor written out"

    def __post_init__(self) -> None:
        """Refuse values no scheme could compute from."""
        if self.rotary_dim < 2 or self.rotary_dim % 2 or self.rotary_dim > self.head_dim:
            raise RopeError(
                f"base.rotary_dim: must be even, at least 2 and at most head_dim {self.head_dim}, "
                f"got {self.rotary_dim}; check head_dim and partial_rotary_factor of the config"
            )
        if not 1 < self.theta < float("inf"):
            raise RopeError(
                f"base.theta: must be a finite number above 1, got {self.theta}; "
                "write the RoPE base the model was trained with, often 10000 or 500000"
            )
        for name in ("original_length", "trained_length"):
            if getattr(self, name) < 1:
                got = getattr(self, name)
                raise RopeError(
                    f"base.{name}: must be at least 1 token, got {got}; write the window in tokens"
                )
        if self.kv_heads < 1 or self.query_heads % self.kv_heads:
            raise RopeError(
                f"base.kv_heads: must divide the {self.query_heads} query heads, got {self.kv_heads}; "
                "check num_attention_heads and num_key_value_heads of the config"
            )

    def unscaled(self) -> Tensor:
        """Return theta^(-2i/d), radians a token, float64 [rotary_dim / 2] (Su et al., 2104.09864)."""
        return inverse_frequencies(self.theta, self.rotary_dim)


def inverse_frequencies(theta: float, rotary_dim: int) -> Tensor:
    """Return theta^(-2i/d) for i in [0, d/2), float64 on the CPU whatever the default device."""
    # One scalar power at a time: a vectorised one's last bit, and so the fingerprint, depends on the machine.
    powers = [float(theta) ** (-2 * i / rotary_dim) for i in range(rotary_dim // 2)]
    return torch.tensor(powers, dtype=torch.float64, device="cpu")
