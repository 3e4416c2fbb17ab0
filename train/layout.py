"""Who holds which tokens: arithmetic over ranks, no process group, so any rank of any world can be asked."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from .errors import TrainError

FLAT_KERNELS = ("varlen", "flash")
"""Kernels that take a rank's packs laid end to end, numbered in 32 bits."""
MOST_ELEMENTS = 2**31
"""The queries of a rank must have fewer elements than this for them."""
ROUNDS = 8
"""Rounds in which tokens are dealt to gather ranks, back and forth: the causal work of the busiest is then at
most 1.01 times the mean, on packed documents too, where two give up to 1.9."""

Span = tuple[int, int]
"""Half-open range of a pack's tokens."""


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Split `world` ranks into `data` groups of `gather` times `heads` neighbouring ranks that share a pack.

    Ranks are numbered with the heads innermost, so that their all-to-all stays inside a machine.
    """

    world: int = 1
    heads: int = 1
    """Ranks that divide the heads of the same tokens among them."""
    gather: int = 1
    """Ranks that divide the tokens of the same heads, and exchange keys and values."""

    def __post_init__(self) -> None:
        if min(self.world, self.heads, self.gather) < 1 or self.world % self.sequence:
            raise TrainError(
                f"train.sequence: must divide the world of {self.world} ranks, got {self.sequence}; "
                f"use one of {divisors(self.world)}"
            )

    @property
    def sequence(self) -> int:
        """Ranks that share a pack."""
        return self.heads * self.gather

    @property
    def data(self) -> int:
        return self.world // self.sequence

    def data_rank(self, rank: int) -> int:
        return rank // self.sequence

    def gather_rank(self, rank: int) -> int:
        return rank // self.heads % self.gather

    def heads_rank(self, rank: int) -> int:
        return rank % self.heads

    def sequence_ranks(self, data_rank: int) -> list[int]:
        """Name the ranks that hold the pieces of one pack."""
        return list(range(data_rank * self.sequence, (data_rank + 1) * self.sequence))

    def heads_groups(self) -> Iterator[list[int]]:
        """Name the ranks that hold the same tokens for other heads, group by group."""
        yield from (list(range(first, first + self.heads)) for first in range(0, self.world, self.heads))

    def gather_groups(self) -> Iterator[list[int]]:
        """Name the ranks that hold the same heads of other tokens, group by group."""
        for first in range(0, self.world, self.sequence):
            for place in range(first, first + self.heads):
                yield list(range(place, first + self.sequence, self.heads))

    def rounds(self, start: int, stop: int) -> list[Span]:
        """Cut tokens [start, stop) into contiguous ranges of which each gather rank holds an equal part."""
        self._check_divides(stop - start)
        if self.gather == 1:
            return [(start, stop)]
        share = (stop - start) // self.gather
        cuts = [start + share * number // ROUNDS * self.gather for number in range(ROUNDS + 1)]
        return [(first, last) for first, last in pairwise(cuts) if first < last]

    def part(self, gather_rank: int, number: int, within: Span) -> Span:
        """Return what a gather rank holds of round `number`, whose tokens are `within`: every other round is
        dealt backwards."""
        first, last = within
        size = (last - first) // self.gather
        place = self.gather - 1 - gather_rank if number % 2 else gather_rank
        return first + place * size, first + (place + 1) * size

    def share(self, gather_rank: int, start: int, stop: int) -> list[Span]:
        """Return what a heads group holds of tokens [start, stop), in token order."""
        rounds = enumerate(self.rounds(start, stop))
        return [self.part(gather_rank, number, within) for number, within in rounds]

    def spans(self, rank: int, start: int, stop: int) -> list[Span]:
        """Return what `rank` holds of a pack's tokens [start, stop), in token order.

        The ranks of a heads group hold equal pieces of its share, one after the other.
        """
        share = self.share(self.gather_rank(rank), start, stop)
        size = (stop - start) // self.sequence
        skipped, spans = self.heads_rank(rank) * size, []
        for first, last in share:
            begin, end = first + skipped, min(last, first + skipped + size)
            if begin < end:
                spans.append((begin, end))
                size -= end - begin
            skipped = max(0, skipped - (last - first))
        return spans

    def _check_divides(self, length: int) -> None:
        if length % self.sequence:
            raise TrainError(
                f"train.sequence: must divide the pack of {length} tokens, got {self.sequence}; "
                f"use one of {[d for d in divisors(self.world) if length % d == 0]}"
            )


def split_sequence(sequence: int, *, query_heads: int, kv_heads: int, replicate: bool) -> int:
    """Return how many of `sequence` ranks divide the heads: as many as can, the rest gather.

    With `replicate` more ranks than kv heads may, each kv head then being kept by several.
    """
    return max(
        heads
        for heads in divisors(sequence)
        if query_heads % heads == 0 and (kv_heads % heads == 0 or (replicate and heads % kv_heads == 0))
    )


def legal_degrees(*, query_heads: int, kv_heads: int, length: int, world: int) -> list[int]:
    """List the ranks that may divide the heads between them, by heads, pack length and world.

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
