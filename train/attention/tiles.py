"""Which queries meet which keys? Squares and rectangles of them that need no mask; arithmetic, no tensors.

A query attends to the keys of its own group up to itself, with a sliding `window` w to the last w of them.
Queries [a, b) of one group that are no more than w meet:

    keys    ... a-w+1 ......... b-w ............. a ........ b
    query a       [ since      ][ whole          ][ until
    query b-1                   [ whole          ][ until    ]

`until` is the causal square of the queries' own keys, `whole` what all of them see, `since` a square in which
query i sees keys from i on: read backwards, a causal one. So no kernel needs another mask than the causal one
of a square.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from ..layout import Span

Groups = Sequence[Sequence[Span]]
"""Of each row of a batch, the attention scopes that cover its pack."""
Edge = Literal["whole", "until", "since"]


@dataclass(frozen=True)
class Tile:
    """Queries and keys of one row that meet: ranges of places in two tensors."""

    row: int
    queries: Span
    keys: Span
    edge: Edge


@dataclass(frozen=True)
class Piece:
    """Consecutive queries of one group: tokens [start, stop) of the pack at the places from `place` on."""

    row: int
    place: int
    start: int
    stop: int
    group: int
    """First token of the group."""

    def tile(self, tokens: Span, keys: Span, edge: Edge) -> Tile:
        shift = self.place - self.start
        return Tile(self.row, (tokens[0] + shift, tokens[1] + shift), keys, edge)


def pieces(groups: Groups, spans: Iterable[Span], window: int | None) -> Iterator[Piece]:
    """Cut the queries that stand in `spans` of each row at the borders of groups and to `window` tokens."""
    spans = list(spans)
    for row, own in enumerate(groups):
        place = 0
        for first, last in spans:
            for begin, end in own:
                low, high = max(begin, first), min(end, last)
                for start in range(low, high, window or max(1, high - low)):
                    stop = min(high, start + window) if window else high
                    yield Piece(row, place + start - first, start, stop, begin)
            place += last - first


def squares(cut: Iterable[Piece]) -> list[Tile]:
    """Return the causal square of each piece, keys standing at the places of their queries."""
    return [
        Tile(piece.row, places, places, "until")
        for piece in cut
        for places in [(piece.place, piece.place + piece.stop - piece.start)]
    ]


def meetings(cut: Iterable[Piece], block: Span, window: int | None) -> list[Tile]:
    """Return the tiles of pieces with the keys of tokens `block`, their own squares left out."""
    tiles: list[Tile] = []
    for piece in cut:
        seen_by_all = piece.group if window is None else max(piece.group, piece.stop - window)
        tiles += _tile(piece, (piece.start, piece.stop), (seen_by_all, piece.start), block, "whole")
        if window is not None:
            tiles += _since(piece, block, window)
    return tiles


def _since(piece: Piece, block: Span, window: int) -> Iterator[Tile]:
    """Yield how keys are met that not all queries of a piece see: the n-th is the farthest of query n."""
    nearest = piece.start - window + 1
    first, last = max(nearest, piece.group, block[0]), min(piece.stop - window, block[1])
    if first < last:
        low, high = piece.start + first - nearest, piece.start + last - nearest
        yield from _tile(piece, (piece.start, low), (first, last), block, "whole")
        yield from _tile(piece, (low, high), (first, last), block, "since")


def _tile(piece: Piece, queries: Span, keys: Span, block: Span, edge: Edge) -> Iterator[Tile]:
    first, last = max(keys[0], block[0]), min(keys[1], block[1])
    if first < last and queries[0] < queries[1]:
        yield piece.tile(queries, (first - block[0], last - block[0]), edge)
