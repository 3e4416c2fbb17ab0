"""Who holds which tokens: arithmetic over ranks, no process group, so any rank of any world can be asked."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from ..rope.scheme import Base
from .errors import TrainError

FLAT_KERNELS = ("varlen", "flash")
"""Kernels that take a rank's packs laid end to end, numbered in 32 bits."""
UNPAIRED_KERNELS = ("flex",)
"""Kernels that give no log-sum-exp with their result, so that keys cannot be visited block by block."""
MOST_ELEMENTS = 2**31
"""The queries of a rank must have fewer elements than this for them."""
ROUNDS = 8
"""Rounds in which tokens are dealt to gather ranks, back and forth: the causal work of the busiest is then at
most 1.01 times the mean, on packed documents too, where two give up to 1.9."""

Span = tuple[int, int]
"""Half-open range of a pack's tokens."""
Heads = Sequence[tuple[int, int]]
"""Query and kv heads of a model, a pair for each kind of layer."""


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

    @classmethod
    def of(
        cls, world: int, sequence: int, heads: Heads, *, divide: int | None = None, replicate: bool = True
    ) -> "Layout":
        """Divide the heads among `divide` of `sequence` ranks; None: among as many as may."""
        degree = split_sequence(sequence, heads, replicate=replicate) if divide is None else divide
        return cls(world=world, heads=degree, gather=sequence // degree)

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
        """Cut tokens [start, stop) into contiguous ranges; each gather rank holds an equal part of each."""
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


def head_counts(bases: Mapping[str, Base]) -> list[tuple[int, int]]:
    """List the (query, kv) head counts of a model's kinds of layer, one of each."""
    return sorted({(base.query_heads, base.kv_heads) for base in bases.values()})


def legal_heads(sequence: int, heads: Heads, *, replicate: bool) -> list[int]:
    """List how many of `sequence` ranks may divide the heads, those of every kind of layer; the rest gather.

    The all-to-all gives each rank whole query heads. With `replicate` more ranks than kv heads may, each kv
    head then being kept by several.
    """
    return [
        degree
        for degree in divisors(sequence)
        if all(
            query % degree == 0 and (kv % degree == 0 or (replicate and degree % kv == 0))
            for query, kv in heads
        )
    ]


def split_sequence(sequence: int, heads: Heads, *, replicate: bool) -> int:
    """Return how many of `sequence` ranks divide the heads: as many as may."""
    return legal_heads(sequence, heads, replicate=replicate)[-1]


def legal_sequences(world: int, heads: Heads, *, length: int, whole: bool = False) -> list[int]:
    """List the ranks that may share `length` tokens: all that divide both, since those beyond the heads
    divide the tokens. With `whole` each must see all tokens of its heads, so all of them divide the heads.
    """
    legal = [degree for degree in divisors(world) if length % degree == 0]
    return [d for d in legal if not whole or d in legal_heads(d, heads, replicate=True)]


def divisors(number: int) -> list[int]:
    low = [d for d in range(1, math.isqrt(number) + 1) if number % d == 0]
    return low + [number // d for d in reversed(low) if d * d != number]
