"""How is a long list of inputs cut into units of work that do not depend on who does them?"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise

from .source import Input, Span, Unit

Piece = tuple[tuple[Span, ...], int]
"""Spans that stay together, and their stored bytes."""


def evenly(input: Input, total: int, size: int) -> list[Piece]:
    """Cut [0, total) of an input into equal spans of at most about `size` stored bytes."""
    parts = min(max(1, -(-input.size // size)), max(1, total))
    cuts = [part * total // parts for part in range(parts + 1)]
    if parts == 1:
        return [((Span(input=input),), input.size)]
    return [
        ((Span(input=input, start=start, stop=stop),), input.size // parts) for start, stop in pairwise(cuts)
    ]


def gathered(pieces: Iterable[Piece], size: int) -> list[Unit]:
    """Join pieces in order into units of at most `size` stored bytes, or of one piece."""
    units: list[Unit] = []
    held: list[Span] = []
    bytes_held = 0
    for spans, stored in pieces:
        if held and bytes_held + stored > size:
            units.append(Unit(spans=tuple(held)))
            held, bytes_held = [], 0
        held += spans
        bytes_held += stored
    if held:
        units.append(Unit(spans=tuple(held)))
    return units


def borders(weights: Sequence[int], size: int) -> list[tuple[int, int, int]]:
    """Join rows in order into (first, last + 1, weight) of at most `size`, or of one row."""
    cuts: list[tuple[int, int, int]] = []
    first = held = 0
    for row, weight in enumerate(weights):
        if row > first and held + weight > size:
            cuts.append((first, row, held))
            first, held = row, 0
        held += weight
    if len(weights) > first:
        cuts.append((first, len(weights), held))
    return cuts
