"""YaRN: divide slow frequencies, keep fast ones, ramp between, sharpen attention (Peng et al., 2309.00071).

The paper ramps in rotations; every released implementation ramps in the dimension index, and checkpoints were
trained with those. We follow the code, as transformers has it, the clamp of the ramp's end to d - 1 included.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import torch

from ..base import Base, RopeError
from ..scheme import Factored, Frequencies, check_number, scheme


@scheme("yarn")
@dataclass(frozen=True, kw_only=True)
class Yarn(Factored):
    """Rotate by (1 - ramp) theta_i + ramp theta_i / s, cos and sin times the attention scale."""

    hf_type = "yarn"
    hf_keys = frozenset({"factor", "beta_fast", "beta_slow", "truncate", "finetuned"}) | {
        "attention_factor",
        "mscale",
        "mscale_all_dim",
    }

    beta_fast: float = 32
    "turns in the original window at and above which a frequency is kept"
    beta_slow: float = 1
    "turns in the original window at and below which a frequency is divided by the factor"
    attention_scale: float | None = None
    "scalar on cos and sin; None: 0.1 ln s + 1"
    truncate: bool = True
    "round the ends of the ramp outwards to whole dimensions"

    def __post_init__(self) -> None:
        """Check every knob."""
        super().__post_init__()
        check_number("rope.yarn.beta_slow", self.beta_slow, above=0, cure="the usual value is 1")
        check_number("rope.yarn.beta_fast", self.beta_fast, above=0, cure="the usual value is 32")
        if self.beta_fast <= self.beta_slow:
            raise RopeError(
                f"rope.yarn.beta_fast: must exceed beta_slow {self.beta_slow}, got {self.beta_fast}; "
                "the usual values are beta_fast 32 and beta_slow 1"
            )
        if self.attention_scale is not None:
            where, cure = "rope.yarn.attention_scale", "leave it out to derive it"
            check_number(where, self.attention_scale, above=0, cure=cure)
        if not isinstance(self.truncate, bool):
            raise RopeError(f"rope.yarn.truncate: must be true or false, got {self.truncate!r}; usually true")

    def ramp(self, base: Base) -> torch.Tensor:
        """Return how far each frequency is interpolated, 0 to 1, float64 [rotary_dim / 2]."""
        d = base.rotary_dim

        def dimension(turns: float) -> float:
            return d * math.log(base.original_length / (turns * 2 * math.pi)) / (2 * math.log(base.theta))

        low, high = dimension(self.beta_fast), dimension(self.beta_slow)
        if self.truncate:
            low, high = math.floor(low), math.ceil(high)
        low, high = max(low, 0), min(high, d - 1)
        # A ramp of no width is a step; transformers widens it by this much.
        high += 0.001 if low == high else 0
        index = torch.arange(d // 2, dtype=torch.float64, device="cpu")
        return ((index - low) / (high - low)).clamp(0, 1)

    def scale_for(self, factor: float) -> float:
        """Return the attention scale in force at this factor."""
        return float(self.attention_scale if self.attention_scale is not None else scale_at(factor))

    def frequencies(self, base: Base, *, target_length: int, length: int | None = None) -> Frequencies:
        """Return the ramped frequencies and the attention scale."""
        factor = self.factor_for(base, target_length)
        unscaled, ramp = base.unscaled(), self.ramp(base)
        inv_freq = unscaled / factor * ramp + unscaled * (1 - ramp) if factor != 1 else unscaled
        return Frequencies(inv_freq=inv_freq[None], attention_scale=self.scale_for(factor))

    def to_hf(self, base: Base, *, target_length: int) -> dict[str, Any]:
        """Write every value out: readers disagree on the defaults, above all on attention_factor."""
        factor = self.factor_for(base, target_length)
        return self.written(
            base,
            factor=factor,
            original_max_position_embeddings=base.original_length,
            attention_factor=self.scale_for(factor),
            beta_fast=float(self.beta_fast),
            beta_slow=float(self.beta_slow),
            truncate=self.truncate,
        )

    @classmethod
    def from_hf(cls, parameters: Mapping[str, Any], *, original_length: int, trained_length: int) -> Self:
        """Read as transformers does: no factor means trained / original, an mscale pair gives the scale."""
        factor = parameters.get("factor") or trained_length / original_length
        scale = parameters.get("attention_factor")
        mscale, mscale_all_dim = parameters.get("mscale"), parameters.get("mscale_all_dim")
        if scale is None and mscale and mscale_all_dim:
            scale = scale_at(factor, mscale) / scale_at(factor, mscale_all_dim)
        return cls(
            factor=factor,
            beta_fast=parameters.get("beta_fast") or 32,
            beta_slow=parameters.get("beta_slow") or 1,
            attention_scale=scale,
            truncate=parameters.get("truncate", True),
        )


def scale_at(factor: float, weight: float = 1.0) -> float:
    """Return 0.1 w ln s + 1, and 1 where nothing is stretched (2309.00071, equation 22)."""
    return 0.1 * weight * math.log(factor) + 1.0 if factor > 1 else 1.0
