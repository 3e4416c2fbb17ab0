"""How does a scheme change distances instead of frequencies? In bands: ranges of keys, and where they stand.

An attention scheme gives every query a few contiguous ranges of keys and says at which positions the two
stand there. `ropewalk.rope.bands` attends by them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from .scheme import Array, Base, Frequencies, Scheme


@dataclass(frozen=True, kw_only=True)
class Band:
    """Say which keys a query at place m of its request meets, and at which positions the two then stand.

    Places and positions are int64, numpy arrays or torch tensors alike.
    """

    keys: Callable[[int], tuple[int, int]]
    "m to the half-open range of key places, inside [0, m + 1); (0, 0) where there are none"
    query: Callable[[Any], Any]
    "places of queries to the positions they are turned by"
    key: Callable[[Any], Any]
    "places of keys to the positions they are turned by"


@dataclass(frozen=True, kw_only=True)
class AttentionScheme(Scheme):
    """Choose relative positions, not frequencies: those the model was pretrained with, within its window."""

    training_free: ClassVar[bool] = True

    def bands(self, base: Base, *, target_length: int) -> tuple[Band, ...]:
        """Return the bands; every key up to m is in exactly one of them, m itself in the first."""
        raise NotImplementedError

    def period(self, base: Base, *, target_length: int) -> int:
        """Return the tokens after which the shape of the bands repeats.

        While m is in [i * period, (i + 1) * period), each end of a band's range stands still or moves with m,
        and a range whose ends both move is at least a period wide.
        """
        raise NotImplementedError

    def largest_position(self, base: Base, *, target_length: int) -> int:
        """Return the largest relative position among `target_length` tokens."""
        raise NotImplementedError

    def score_scale(self, base: Base, places: NDArray[np.int64]) -> Array | None:
        """Return what the scores of queries at rising places are times, or None where nothing."""
        return None

    def reach(self, base: Base, *, target_length: int) -> float:
        """Return largest distance / largest relative position, for attention what `stretch` is."""
        largest = self.largest_position(base, target_length=target_length)
        return max(target_length - 1, 1) / max(largest, 1)

    def frequencies(self, base: Base, *, target_length: int, length: int | None = None) -> Frequencies:
        """Return the unscaled frequencies."""
        return Frequencies(inv_freq=base.unscaled()[None])
