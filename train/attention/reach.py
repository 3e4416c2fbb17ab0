"""Which blocks of keys do the queries of a chunk meet, and which of a chunk's keys do later ones?

The same on all ranks that share a pack, as far as it says who exchanges what: arithmetic on the groups alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from ..layout import Layout, Span
from .tiles import Groups, Tile, meetings, pieces, squares


@dataclass(frozen=True)
class Block:
    """Keys of consecutive tokens, and the tiles in which this rank's queries meet them."""

    span: Span
    number: int
    """Of the round in which they were dealt to the gather ranks."""
    places: Span | None
    """Where this rank's part stands among its own keys; none where the block is of an earlier chunk."""
    tiles: list[Tile]


@dataclass(frozen=True)
class Reach:
    """The causal squares of this rank's own tokens, and the blocks that any of the gather group meets."""

    squares: list[Tile]
    blocks: list[Block]


Numbered = tuple[int, Span]
"""A round by its number, and its tokens."""


def stored_rounds(layout: Layout, groups: Groups, chunk: Span, window: int | None) -> list[Numbered]:
    """Find the rounds of a chunk of which later tokens see something; with one gather rank, what they see."""
    border = chunk[1]
    first = min((begin for own in groups for begin, end in own if begin < border < end), default=border)
    if window is not None:
        first = max(first, border - window + 1)
    if layout.gather == 1:
        return [(0, (max(first, chunk[0]), border))] if first < border else []
    return [(number, span) for number, span in enumerate(layout.rounds(*chunk)) if first < span[1]]


def reach(
    layout: Layout, gather_rank: int, groups: Groups, chunk: Span, earlier: Sequence[Span], window: int | None
) -> Reach:
    """Find what the queries of `chunk` meet in it and in the chunks before it that are in the store."""
    own = list(pieces(groups, layout.share(gather_rank, *chunk), window))
    parts = sorted(part for rank in range(layout.gather) for part in layout.share(rank, *chunk))
    every = own if layout.gather == 1 else list(pieces(groups, parts, window))
    rounds = [found for before in earlier for found in stored_rounds(layout, groups, before, window)]
    seen = [(number, span, None) for number, span in rounds]
    seen += [(number, span, places) for number, span, places in own_rounds(layout, chunk)]
    return Reach(
        squares(own),
        [
            Block(span, number, places, meetings(own, span, window))
            for number, span, places in seen
            if meetings(every, span, window)
        ],
    )


def own_rounds(layout: Layout, chunk: Span) -> list[tuple[int, Span, Span]]:
    """Number the rounds of a chunk, with the places of a gather rank's part among its own tokens."""
    found, place = [], 0
    for number, span in enumerate(layout.rounds(*chunk)):
        size = (span[1] - span[0]) // layout.gather
        found.append((number, span, (place, place + size)))
        place += size
    return found
