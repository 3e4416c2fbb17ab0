"""Dynamic NTK: raise theta with the sequence, and only past the original window (emozilla, 2023).

theta (s n / L - (s - 1))^(d / (d - 2)) at n > L tokens, as transformers has it: at n = s L the slowest
frequency is divided by s^2 - s + 1 and not by s.
"""

from typing import Any

from ..scheme import Base, Factored, Frequencies, inverse_frequencies, scheme
from .ntk import raised_theta


@scheme("dynamic")
class Dynamic(Factored):
    """Rotate with a theta of the sequence's own length."""

    hf_type = "dynamic"
    hf_keys = frozenset({"factor"})
    hf_needed = True
    training_free = True

    @property
    def depends_on_length(self) -> bool:
        """Every length beyond the original one has frequencies of its own."""
        return True

    def frequencies(self, base: Base, *, target_length: int, length: int | None = None) -> Frequencies:
        """Return the unscaled frequencies of the length's theta."""
        at, factor = target_length if length is None else length, self.factor_for(base, target_length)
        divisor = max(1.0, factor * at / base.original_length - (factor - 1))
        theta = raised_theta(self.name, base, divisor)
        return Frequencies(inv_freq=inverse_frequencies(theta, base.rotary_dim)[None])

    def to_hf(self, base: Base, *, target_length: int) -> dict[str, Any]:
        """Write the factor, and the original length for the next run; readers find it by `hf_window`."""
        factor = self.factor_for(base, target_length)
        return self.written(base, factor=factor, original_max_position_embeddings=base.original_length)

    def hf_window(self, base: Base, *, target_length: int) -> int:
        """Return the original length: from the extended one transformers would compute no change."""
        return base.original_length
