"""Adjusted base frequency: continue training with a larger theta (Xiong et al., 2309.16039).

Without a stated theta, the smallest one is taken that keeps the critical dimension, the last to have seen a
whole turn in pretraining, inside the turn it knows: theta^(log_{L/2pi}(L'/2pi)) (Liu et al., 2310.05209;
LongRoPE2, 2502.20082).
"""

import math
from typing import Any

from ..knobs import LARGEST
from ..scheme import Base, Frequencies, RopeError, Scheme, Theta, inverse_frequencies, scheme, target_factor


@scheme("abf")
class Abf(Scheme):
    """Rotate with a larger theta."""

    stretch_knob = "theta"

    theta: Theta | None = None
    "the new base; None: the smallest that keeps the critical dimension's rotation in its trained range"

    def theta_for(self, base: Base, target_length: int) -> float:
        """Return the new base."""
        if self.theta is not None:
            return float(self.theta)
        turns = base.original_length / (2 * math.pi)
        target_turns = turns * target_factor(self.name, base, target_length)
        power = math.log(target_turns) / math.log(turns) if turns > 1 else math.inf
        if power * math.log(base.theta) > math.log(LARGEST):
            raise RopeError(
                "rope.abf: original_length must be so many turns (of 2 pi tokens) that theta stays below "
                f"{LARGEST:g}, got {base.original_length}; state rope.theta"
            )
        return base.theta**power

    def frequencies(self, base: Base, *, target_length: int, length: int | None = None) -> Frequencies:
        """Return the unscaled frequencies of the new base."""
        theta = self.theta_for(base, target_length)
        return Frequencies(inv_freq=inverse_frequencies(theta, base.rotary_dim)[None])

    def to_hf(self, base: Base, *, target_length: int) -> dict[str, Any]:
        """Write the new base as an ordinary theta."""
        return self.written(base, theta=self.theta_for(base, target_length))
