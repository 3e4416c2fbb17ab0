"""Llama 3.1: by wavelength, keep, divide by the factor, or blend linearly in turns (Meta, 2407.21783)."""

import math
from typing import Any

from ..scheme import Base, Factored, Frequencies, Positive, RopeError, scheme


@scheme("llama3")
class Llama3(Factored):
    """Blend theta_i / s and theta_i by the turns a frequency makes in the original window."""

    hf_type = "llama3"
    hf_keys = frozenset({"factor", "low_freq_factor", "high_freq_factor"})
    hf_needed = True

    low_freq_factor: Positive = 1
    "turns in the original window below which a frequency is divided by the factor"
    high_freq_factor: Positive = 4
    "turns in the original window above which a frequency is kept"

    def __post_init__(self) -> None:
        """Check that there is room to blend."""
        if self.high_freq_factor <= self.low_freq_factor:
            raise RopeError(
                f"rope.llama3.high_freq_factor: must exceed low_freq_factor {self.low_freq_factor}, "
                f"got {self.high_freq_factor}; the usual values are 4 and 1"
            )

    def frequencies(self, base: Base, *, target_length: int, length: int | None = None) -> Frequencies:
        """Return the blended frequencies."""
        unscaled, factor = base.unscaled(), self.factor_for(base, target_length)
        turns = base.original_length * unscaled / (2 * math.pi)
        kept = (turns - self.low_freq_factor) / (self.high_freq_factor - self.low_freq_factor)
        kept = kept.clip(0, 1)
        inv_freq = (1 - kept) * unscaled / factor + kept * unscaled if factor != 1 else unscaled
        return Frequencies(inv_freq=inv_freq[None])

    def to_hf(self, base: Base, *, target_length: int) -> dict[str, Any]:
        """Write the factor, both bounds and the original length."""
        return self.written(
            base,
            factor=self.factor_for(base, target_length),
            original_max_position_embeddings=base.original_length,
            low_freq_factor=float(self.low_freq_factor),
            high_freq_factor=float(self.high_freq_factor),
        )
