"""Which distances does a plan really train, however long its packs are, and from what documents?

A token attends to all before it in its group; how far apart the two are is told by their positions, which may
skip ahead. A run is a span of a group with consecutive positions; all counts are closed forms over the pairs
of runs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from .plan import Plan


@dataclass(frozen=True, kw_only=True)
class Octave:
    """Distances [start, stop): tokens whose farthest visible token lies there, and query-key pairs that far
    apart."""

    start: int
    stop: int
    tokens: int
    pairs: int


@dataclass(frozen=True, kw_only=True)
class Bucket:
    """Documents of a source that have [start, 2 * start) tokens, and what the plan trains of them, repeats
    counted."""

    source: str
    start: int
    documents: int
    tokens: int


def coverage(plan: Plan) -> list[Octave]:
    """Count tokens and pairs by octave of distance over the whole plan, padding left out; distance 0 stands
    alone."""
    runs = _runs(plan)
    edges = [0, 1]
    while edges[-1] < plan.reach:
        edges.append(2 * edges[-1])
    tokens = [runs.tokens_from(edge) for edge in edges]
    pairs = [runs.pairs_from(edge) for edge in edges]
    return [
        Octave(start=start, stop=stop, tokens=far - farther, pairs=apart - further)
        for (start, stop), (far, farther), (apart, further) in zip(
            pairwise(edges), pairwise(tokens), pairwise(pairs), strict=True
        )
    ]


def beyond(plan: Plan, trained_length: int) -> float:
    """Give the share of the plan's query-key pairs at distances the weights have not seen (>=
    trained_length)."""
    runs = _runs(plan)
    every = runs.pairs_from(0)
    return runs.pairs_from(trained_length) / every if every else 0.0


def attention_cost(plan: Plan) -> int:
    """Count the query-key pairs of the plan, padding left out."""
    return _runs(plan).pairs_from(0)


def buckets(plan: Plan) -> list[Bucket]:
    """Say how many documents and tokens of each source the plan has, by octave of the document's length."""
    lengths = plan.document_lengths()
    tokens = np.zeros(len(lengths), np.int64)
    np.add.at(tokens, plan.segments["document"], plan.segments["length"])
    by_octave: dict[tuple[str, int], Bucket] = {}
    for source, rows in plan.sources():
        rows = rows[tokens[rows] > 0]
        octaves = np.frexp(lengths[rows])[1] - 1
        for octave in np.unique(octaves).tolist():
            inside = rows[octaves == octave]
            before = by_octave.get((source, octave))
            by_octave[source, octave] = Bucket(
                source=source,
                start=1 << octave,
                documents=len(inside) + (before.documents if before else 0),
                tokens=int(tokens[inside].sum()) + (before.tokens if before else 0),
            )
    return [by_octave[key] for key in sorted(by_octave)]


def as_json(octaves: list[Octave]) -> list[dict[str, Any]]:
    return [asdict(octave) for octave in octaves]


@dataclass(frozen=True, kw_only=True)
class _Runs:
    """Runs of consecutive positions, in order: int64 arrays of one length."""

    group: np.ndarray
    """Of the whole plan."""
    place: np.ndarray
    """Distance of the run's first token from its group's first."""
    length: np.ndarray

    def tokens_from(self, distance: int) -> int:
        """Count the tokens whose farthest visible token is at least this far away."""
        return _sum(np.clip(self.length + self.place - distance, 0, self.length))

    def pairs_from(self, distance: int) -> int:
        """Count the pairs at least this far apart: 1 + 2 + ... inside a run, a trapezium's sum between
        two."""
        lengths, counts = np.unique(self.length, return_counts=True)
        inside = zip(_triangle(lengths - distance).tolist(), counts.tolist(), strict=True)
        total = sum(pairs * count for pairs, count in inside)
        for earlier, later in self._pairs():
            a, b = self.length[earlier], self.length[later]
            most = b - distance + (self.place[later] - self.place[earlier])
            total += _sum(
                _triangle(most) - _triangle(most - a) - _triangle(most - b) + _triangle(most - a - b)
            )
        return total

    def _pairs(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Give the pairs of runs of one group: neighbours, then those with one between, and so on."""
        for step in range(1, len(self.group)):
            earlier = np.flatnonzero(self.group[step:] == self.group[:-step])
            if not len(earlier):
                return
            yield earlier, earlier + step


def _runs(plan: Plan) -> _Runs:
    """Join segments whose positions follow each other in one group."""
    rows = plan.segments
    opens = np.ones(len(rows), bool)
    opens[1:] = rows["group"][1:] != rows["group"][:-1]
    opens[plan.packs["first"]] = True
    group = np.cumsum(opens) - 1
    position, length = rows["position"], rows["length"]
    breaks = opens.copy()
    breaks[1:] |= position[1:] != position[:-1] + length[:-1]
    first = np.flatnonzero(breaks)
    if not len(first):
        return _Runs(group=group, place=group, length=group)
    return _Runs(
        group=group[first],
        place=(position - position[opens][group])[first],
        length=np.add.reduceat(length, first),
    )


def _triangle(count: np.ndarray) -> np.ndarray:
    """Sum 1 + 2 + ... + count, 0 where it is negative."""
    left = np.maximum(count, 0)
    return left * (left + 1) // 2


def _sum(values: np.ndarray) -> int:
    """Sum what is not negative in halves: the pairs of a plan of long packs pass 2**63."""
    return (int((values >> 32).sum()) << 32) + int((values & 0xFFFFFFFF).sum())
