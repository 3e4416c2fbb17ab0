"""Which distances does a plan really train, however long its packs are?

A token attends to all before it in its group: a group of g tokens has g - d query-key pairs at distance d.
"""

from __future__ import annotations

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


def coverage(plan: Plan) -> list[Octave]:
    """Count tokens and pairs by octave of distance over the whole plan, padding left out; distance 0 stands
    alone."""
    lengths, counts = np.unique(plan.group_lengths(), return_counts=True)
    edges = [0, 1]
    while edges[-1] < plan.length:
        edges.append(2 * edges[-1])
    return [
        Octave(
            start=start,
            stop=stop,
            tokens=int(_times(np.minimum(lengths, stop) - np.minimum(lengths, start), counts)),
            pairs=int(_times(_pairs_from(lengths, start) - _pairs_from(lengths, stop), counts)),
        )
        for start, stop in pairwise(edges)
    ]


def beyond(plan: Plan, trained_length: int) -> float:
    """Give the share of the plan's query-key pairs at distances the weights have not seen (>=
    trained_length)."""
    lengths, counts = np.unique(plan.group_lengths(), return_counts=True)
    every = _times(_pairs_from(lengths, 0), counts)
    return _times(_pairs_from(lengths, trained_length), counts) / every if every else 0.0


def as_json(octaves: list[Octave]) -> list[dict[str, Any]]:
    return [asdict(octave) for octave in octaves]


def _pairs_from(lengths: np.ndarray, distance: int) -> np.ndarray:
    """Count pairs at this distance or more: 1 + 2 + ... + (g - distance)."""
    left = np.maximum(lengths - distance, 0)
    return left * (left + 1) // 2


def _times(values: np.ndarray, counts: np.ndarray) -> int:
    """Sum in Python integers: pairs of a plan of long packs pass 2**63."""
    return sum(value * count for value, count in zip(values.tolist(), counts.tolist(), strict=True))
