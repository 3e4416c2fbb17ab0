"""Keep the frequencies the model was pretrained with (Su et al., 2104.09864)."""

from typing import Any

from ..scheme import Base, Frequencies, Scheme, scheme


@scheme("default")
class Default(Scheme):
    """Rotate by theta^(-2i/d), at any target length."""

    hf_type = "default"

    def frequencies(self, base: Base, *, target_length: int, length: int | None = None) -> Frequencies:
        """Return the unscaled frequencies."""
        return Frequencies(inv_freq=base.unscaled()[None])

    def to_hf(self, base: Base, *, target_length: int) -> dict[str, Any]:
        """Write theta alone."""
        return self.written(base)
