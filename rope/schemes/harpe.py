"""HARPE: every head has a theta of its own, trained at the target length in one stage (2412.07171).

Published for 32 heads with keys of their own. With N kv heads, one theta a kv head is shared by its queries,
so that a key is still stored once; which thetas is ours: the published ones at the quantiles (h + 0.5) / N.
"""

from typing import Annotated, Literal, NoReturn

import numpy as np
from pydantic import Discriminator, Field, Tag

from ..knobs import LARGEST
from ..scheme import Base, Frequencies, NotExpressible, RopeError, Scheme, Theta, inverse_frequencies, scheme

PUBLISHED = tuple(
    millions * 1e6
    for millions in (
        *(1.00, 1.15, 1.30, 1.45, 2.17, 2.20, 2.23, 2.47, 2.50, 2.65, 2.68, 2.71, 2.74, 2.80, 2.83, 2.92),
        *(3.01, 3.04, 3.10, 3.13, 3.16, 3.22, 3.43, 3.46, 3.61, 3.88, 4.09, 4.15, 4.39, 4.45, 4.51, 4.54),
    )
)
"thetas of heads 1 to 32, chosen by peaks and valleys of the attention waveform"
LOWEST, HIGHEST = 1e6, 5e6
"published bounds of the uniform choices"
SPREAD = ("ascending", "descending")
Name = Annotated[Literal["published", "ascending", "descending"], Tag("name")]
One = Annotated[float, Field(gt=1, le=LARGEST, allow_inf_nan=False)]
Thetas = Annotated[tuple[One, ...], Field(strict=False, min_length=1), Tag("list")]


def _kind(bases: object) -> str:
    return "list" if isinstance(bases, list | tuple) else "name"


@scheme("harpe")
class Harpe(Scheme):
    """Rotate each kv head with its own theta, whatever the target length."""

    bases: Annotated[Name | Thetas, Discriminator(_kind)] = Field(
        default="published", description="or a list of thetas; the best measured is published"
    )
    "thetas: published, ascending or descending in even steps over the kv heads, or one a kv head"
    lowest: Theta | None = None
    "least theta of ascending and descending; None: 1e6"
    highest: Theta | None = None
    "largest theta of ascending and descending; None: 5e6"

    def __post_init__(self) -> None:
        """Check that no bound is without effect, and that there is room between them."""
        for name in ("lowest", "highest"):
            if (value := getattr(self, name)) is not None and self.bases not in SPREAD:
                raise RopeError(
                    f"rope.harpe.{name}: must stand beside bases ascending or descending, got {value}; "
                    "leave it out"
                )
        if self._lowest >= self._highest:
            raise RopeError(
                f"rope.harpe.highest: must exceed lowest {self._lowest:g}, got {self._highest:g}; "
                "the published ones are 1e6 and 5e6"
            )

    @property
    def _lowest(self) -> float:
        return LOWEST if self.lowest is None else self.lowest

    @property
    def _highest(self) -> float:
        return HIGHEST if self.highest is None else self.highest

    def thetas(self, base: Base) -> list[float]:
        """Return the theta of each kv head."""
        heads = base.kv_heads
        if self.bases == "published":
            return [_published(head, heads) for head in range(heads)]
        if isinstance(self.bases, tuple):
            if len(self.bases) != heads:
                raise RopeError(
                    f"rope.harpe.bases: must hold one theta for each of {heads} kv heads, got "
                    f"{len(self.bases)}; use published, which fits any number"
                )
            return list(self.bases)
        if heads < 2:
            raise RopeError(
                f"rope.harpe.bases: {self.bases} must have at least 2 kv heads to spread over, got {heads}; "
                "use abf with one theta"
            )
        step = (self._highest - self._lowest) / (heads - 1)
        rising = [self._lowest + head * step for head in range(heads)]
        return rising if self.bases == "ascending" else rising[::-1]

    def frequencies(self, base: Base, *, target_length: int, length: int | None = None) -> Frequencies:
        """Return the unscaled frequencies of every kv head's theta."""
        rows = [inverse_frequencies(theta, base.rotary_dim) for theta in self.thetas(base)]
        return Frequencies(inv_freq=np.stack(rows))

    def to_hf(self, base: Base, *, target_length: int) -> NoReturn:
        """Refuse: no config and no engine has a place for it."""
        raise NotExpressible(
            "rope.harpe: must be one set of frequencies for all heads to be served, got "
            f"{base.kv_heads}, one a kv head; no reader takes frequencies per head, serve it with "
            "ropewalk.rope.install"
        )


def _published(head: int, heads: int) -> float:
    """Return the published theta at quantile (head + 0.5) / heads, linear between (k + 0.5) / 32."""
    at = min(max((head + 0.5) * len(PUBLISHED) / heads - 0.5, 0.0), len(PUBLISHED) - 1.0)
    below = min(int(at), len(PUBLISHED) - 2)
    return PUBLISHED[below] + (at - below) * (PUBLISHED[below + 1] - PUBLISHED[below])
