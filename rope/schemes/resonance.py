"""Resonance RoPE: round every wavelength to whole tokens, after another scheme's scaling (2403.00071).

theta'_i = 2 pi / round(2 pi / theta_i), for every pair. Those that turn within the trained window then meet
no angle that they have not seen, at any position.
"""

from collections.abc import Mapping
from dataclasses import field, replace
from math import pi
from typing import Annotated, Any

from pydantic import PlainValidator

from ..hf import static_container
from ..relative import AttentionScheme
from ..scheme import Base, Frequencies, NotExpressible, RopeError, Scheme, make_scheme, scheme


def _scaling(of: Any) -> Scheme:
    """Make the wrapped scheme, refusing what has no frequencies of its own to round."""
    if isinstance(of, Mapping) and "kind" in of:
        knobs = {str(name): value for name, value in of.items()}
        of = make_scheme(knobs.pop("kind"), **knobs)
    if not isinstance(of, Scheme) or isinstance(of, AttentionScheme | Resonance):
        raise RopeError(
            "rope.resonance.of: must be a scheme that scales frequencies, got "
            f"{of.name if isinstance(of, Scheme) else repr(of)}; write a mapping like "
            "{kind: yarn, factor: 8}"
        )
    return of


@scheme("resonance")
class Resonance(Scheme):
    """Rotate by another scheme's frequencies, wavelengths rounded."""

    of: Annotated[Scheme, PlainValidator(_scaling)] = field(default_factory=lambda: make_scheme("yarn"))
    "the scheme that scales: a mapping of its `kind` and knobs"

    @property
    def knobs(self) -> dict[str, Any]:
        """Return the wrapped scheme as a mapping."""
        return {"of": {"kind": self.of.name} | self.of.knobs}

    @property
    def depends_on_length(self) -> bool:
        """Say whether the wrapped scheme does."""
        return self.of.depends_on_length

    def frequencies(self, base: Base, *, target_length: int, length: int | None = None) -> Frequencies:
        """Return the wrapped scheme's frequencies, rounded; its unscaled first tokens stay so."""
        scaled = self.of.frequencies(base, target_length=target_length, length=length)
        # Reciprocals times 2 pi: fingerprints of checkpoints know these last bits.
        wavelength = (1 / scaled.inv_freq * (2 * pi)).round()
        return replace(scaled, inv_freq=1 / wavelength * (2 * pi))

    def to_hf(self, base: Base, *, target_length: int) -> dict[str, Any]:
        """Write lists of divisors, which fall below 1 where an unscaled wavelength was rounded down."""
        if not self.depends_on_length:
            rounded = self.frequencies(base, target_length=target_length)
            return static_container(base, rounded, target_length)
        if self.of.name != "longrope":
            raise NotExpressible(
                "rope.resonance.of: must have at most two sets of frequencies to be served, got "
                f"{self.of.name}, which has one for each length; round a static scheme"
            )
        lengths = (base.original_length, max(target_length, base.original_length + 1))
        short, long = (self.frequencies(base, target_length=target_length, length=n) for n in lengths)
        return static_container(base, long, target_length, short=short)
