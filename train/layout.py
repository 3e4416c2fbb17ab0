"""Who holds which tokens: arithmetic over ranks, no process group, so any rank of any world can be asked."""

import math
from dataclasses import dataclass

from .errors import TrainError

FLAT_KERNELS = ("varlen", "flash")
"""Kernels that take a rank's packs laid end to end, numbered in 32 bits."""
MOST_ELEMENTS = 2**31
"""The queries of a rank must have fewer elements than this for them."""


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Split `world` ranks into `data` groups of `sequence` neighbouring ranks that share a pack."""

    world: int = 1
    sequence: int = 1

    def __post_init__(self) -> None:
        if self.world < 1 or self.sequence < 1 or self.world % self.sequence:
            raise TrainError(
                f"train.sequence: must divide the world of {self.world} ranks, got {self.sequence}; "
                f"use one of {divisors(self.world)}"
            )

    @property
    def data(self) -> int:
        return self.world // self.sequence

    def data_rank(self, rank: int) -> int:
        return rank // self.sequence

    def sequence_rank(self, rank: int) -> int:
        return rank % self.sequence

    def sequence_ranks(self, data_rank: int) -> list[int]:
        """Name the ranks that hold the pieces of one pack, in token order."""
        return list(range(data_rank * self.sequence, (data_rank + 1) * self.sequence))

    def span(self, rank: int, length: int) -> tuple[int, int]:
        """Return the half-open range of a pack's tokens that `rank` holds."""
        if length % self.sequence:
            raise TrainError(
                f"train.sequence: must divide the pack of {length} tokens, got {self.sequence}; "
                f"use one of {[d for d in divisors(self.world) if length % d == 0]}"
            )
        size = length // self.sequence
        start = self.sequence_rank(rank) * size
        return start, start + size


def legal_degrees(*, query_heads: int, kv_heads: int, length: int, world: int) -> list[int]:
    """List the sequence degrees that heads, pack length and world allow.

    The all-to-all gives each rank whole query heads; kv heads are either split or replicated evenly.
    """
    return [
        degree
        for degree in divisors(world)
        if query_heads % degree == 0
        and (kv_heads % degree == 0 or degree % kv_heads == 0)
        and length % degree == 0
    ]


def divisors(number: int) -> list[int]:
    low = [d for d in range(1, math.isqrt(number) + 1) if number % d == 0]
    return low + [number // d for d in reversed(low) if d * d != number]
