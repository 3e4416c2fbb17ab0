"""Position interpolation: divide every frequency by the factor (Chen et al., 2306.15595)."""

from typing import Any

from ..scheme import Base, Factored, Frequencies, scheme


@scheme("linear")
class Linear(Factored):
    """Rotate by theta_i / s."""

    hf_type = "linear"
    hf_keys = frozenset({"factor"})

    def frequencies(self, base: Base, *, target_length: int, length: int | None = None) -> Frequencies:
        """Return every unscaled frequency divided by the factor."""
        return Frequencies(inv_freq=base.unscaled()[None] / self.factor_for(base, target_length))

    def to_hf(self, base: Base, *, target_length: int) -> dict[str, Any]:
        """Write the factor, and the original length although transformers does not read it here.

        Without it the next run could not tell the original window from the extended one.
        """
        factor = self.factor_for(base, target_length)
        return self.written(base, factor=factor, original_max_position_embeddings=base.original_length)
