"""YaRN: divide slow frequencies, keep fast ones, ramp between, sharpen attention (Peng et al., 2309.00071).

The paper ramps in turns; every released implementation ramps in the dimension index, and checkpoints were
trained with those. We follow the code, as transformers has it, the clamp of the ramp's end to d - 1 included;
the paper's is there as `ramp: turns`.
"""

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

import numpy as np
from pydantic import Field

from ..hf import static_container
from ..scheme import Array, Base, Factored, Frequencies, Positive, RopeError, scheme


@scheme("yarn")
class Yarn(Factored):
    """Rotate by (1 - ramp) theta_i + ramp theta_i / s, cos and sin times the attention scale."""

    hf_type = "yarn"
    hf_keys = frozenset({"factor", "beta_fast", "beta_slow", "truncate", "finetuned"}) | {
        "attention_factor",
        "attn_factor",
        "mscale",
        "mscale_all_dim",
    }

    beta_fast: Positive = 32
    "turns in the original window at and above which a frequency is kept"
    beta_slow: Positive = 1
    "turns in the original window at and below which a frequency is divided by the factor"
    attention_scale: Positive | None = None
    "scalar on cos and sin; None: 0.1 ln s + 1"
    truncate: bool = True
    "round the ends of the ramp outwards to whole dimensions"
    ramp: Literal["dimension", "turns"] = "dimension"
    "what the ramp is linear in: dimension, as in all code, or turns, as in the paper"
    critical_pair: Annotated[int, Field(ge=1)] | None = None
    """first pair divided by the whole factor, the ramp moved there; LongRoPE2 (2502.20082) measured 30 for
    LLaMA3-8B and 25 for Phi3-mini. None: where beta_slow says, 35 and 31 for these"""

    def __post_init__(self) -> None:
        """Check what knobs must be to one another."""
        if self.beta_fast <= self.beta_slow:
            raise RopeError(
                f"rope.yarn.beta_fast: must exceed beta_slow {self.beta_slow}, got {self.beta_fast}; "
                "the usual values are beta_fast 32 and beta_slow 1"
            )
        if self.ramp == "turns" and not self.truncate:
            raise RopeError(
                f"rope.yarn.truncate: must be true with ramp turns, got {self.truncate}; leave it out"
            )

    def betas(self, base: Base) -> tuple[float, float]:
        """Return the turns in force, fast and slow: times theta^(2k / d) they are k pairs further down."""
        if self.critical_pair is None:
            return float(self.beta_fast), float(self.beta_slow)
        if self.critical_pair >= base.rotary_dim // 2:
            raise RopeError(
                f"rope.yarn.critical_pair: must be below rotary_dim / 2 = {base.rotary_dim // 2}, "
                f"got {self.critical_pair}; leave it out for the theoretical one"
            )
        pairs_down = math.ceil(_pair_at(base, self.beta_slow)) - self.critical_pair
        moved = base.theta ** (2 * pairs_down / base.rotary_dim)
        return self.beta_fast * moved, self.beta_slow * moved

    def interpolation(self, base: Base) -> Array:
        """Return how far each frequency is interpolated, 0 to 1, float64 [rotary_dim / 2]."""
        fast, slow = self.betas(base)
        if self.ramp == "turns":
            turns = base.original_length * base.unscaled() / (2 * math.pi)
            return ((fast - turns) / (fast - slow)).clip(0, 1)
        low, high = _pair_at(base, fast), _pair_at(base, slow)
        if self.truncate:
            low, high = math.floor(low), math.ceil(high)
        low, high = max(low, 0), min(high, base.rotary_dim - 1)
        # A ramp of no width is a step; transformers widens it by this much.
        high += 0.001 if low == high else 0
        index = np.arange(base.rotary_dim // 2, dtype=np.float64)
        return ((index - low) / (high - low)).clip(0, 1)

    def scale_for(self, factor: float) -> float:
        """Return the attention scale in force at this factor."""
        return float(self.attention_scale if self.attention_scale is not None else scale_at(factor))

    def frequencies(self, base: Base, *, target_length: int, length: int | None = None) -> Frequencies:
        """Return the ramped frequencies and the attention scale."""
        factor = self.factor_for(base, target_length)
        unscaled, ramp = base.unscaled(), self.interpolation(base)
        inv_freq = unscaled / factor * ramp + unscaled * (1 - ramp) if factor != 1 else unscaled
        return Frequencies(inv_freq=inv_freq[None], attention_scale=self.scale_for(factor))

    def to_hf(self, base: Base, *, target_length: int) -> dict[str, Any]:
        """Write every value out, since readers disagree on the defaults; the paper's ramp as divisors."""
        if self.ramp == "turns":
            return static_container(base, self.frequencies(base, target_length=target_length), target_length)
        factor, (fast, slow) = self.factor_for(base, target_length), self.betas(base)
        scale = self.scale_for(factor)
        # Of an attention_factor SGLang and TensorRT-LLM know nothing: one multiplies the paper's scale, the
        # other multiplies its logarithm.
        beside = {} if scale == scale_at(factor) else {"attn_factor": scale / scale_at(factor)}
        if beside and factor > 1:
            beside["mscale"] = (scale - 1) / (scale_at(factor) - 1)
        return self.written(
            base,
            **beside,
            factor=factor,
            original_max_position_embeddings=base.original_length,
            attention_factor=scale,
            beta_fast=fast,
            beta_slow=slow,
            truncate=self.truncate,
        )

    @classmethod
    def from_hf(cls, parameters: Mapping[str, Any], *, original_length: int, trained_length: int) -> Self:
        """Read as transformers does: no factor means trained / original, an mscale pair gives the scale."""
        factor = parameters.get("factor") or trained_length / original_length
        return cls(
            factor=factor,
            beta_fast=parameters.get("beta_fast") or 32,
            beta_slow=parameters.get("beta_slow") or 1,
            attention_scale=stated_scale(parameters, factor),
            truncate=parameters.get("truncate", True),
        )


def scale_at(factor: float, weight: float = 1.0) -> float:
    """Return 0.1 w ln s + 1, and 1 where nothing is stretched (2309.00071, equation 22)."""
    return 0.1 * weight * math.log(factor) + 1.0 if factor > 1 else 1.0


def stated_scale(parameters: Mapping[str, Any], factor: float, *, honour: bool = True) -> float | None:
    """Return the scale that `rope_parameters` state (if it is honoured), or that their mscale pair gives."""
    stated = parameters.get("attention_factor") if honour else None
    pair = parameters.get("mscale"), parameters.get("mscale_all_dim")
    if stated is None and pair[0] and pair[1]:
        return scale_at(factor, pair[0]) / scale_at(factor, pair[1])
    return stated


def _pair_at(base: Base, turns: float) -> float:
    """Return the (real) pair index that makes this many turns in the original window."""
    return (
        base.rotary_dim * math.log(base.original_length / (turns * 2 * math.pi)) / (2 * math.log(base.theta))
    )
