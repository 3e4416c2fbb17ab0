"""NTK-aware: raise theta, dividing the slowest frequency by s and the fastest by 1 (bloc97, 2023)."""

from typing import Any

from ..scheme import Base, Factored, Frequencies, RopeError, inverse_frequencies, scheme


@scheme("ntk")
class Ntk(Factored):
    """Rotate with theta' = theta s^(d / (d - 2)), which divides the last frequency by exactly s."""

    def theta_for(self, base: Base, target_length: int) -> float:
        """Return the raised base."""
        return raised_theta(self.name, base, self.factor_for(base, target_length))

    def frequencies(self, base: Base, *, target_length: int, length: int | None = None) -> Frequencies:
        """Return the unscaled frequencies of the raised base."""
        theta = self.theta_for(base, target_length)
        return Frequencies(inv_freq=inverse_frequencies(theta, base.rotary_dim)[None])

    def to_hf(self, base: Base, *, target_length: int) -> dict[str, Any]:
        """Write the raised base as an ordinary theta: transformers has no rope_type for it."""
        return self.written(base, theta=self.theta_for(base, target_length))


def raised_theta(name: str, base: Base, divisor: float) -> float:
    """Return theta s^(d / (d - 2)), which divides the last frequency by s."""
    d = base.rotary_dim
    if d < 4:
        raise RopeError(f"rope.{name}: must have a rotary_dim of at least 4, got {d}; use linear")
    return base.theta * divisor ** (d / (d - 2))
