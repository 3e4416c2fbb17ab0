"""Tiles hold exactly the pairs of a query and a key that may meet, each once."""

from collections import Counter
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from ropewalk.train.attention.tiles import Groups, Tile, meetings, pieces, squares
from ropewalk.train.layout import Layout, Span

Pairs = Counter[tuple[int, int, int]]
"""How often a row's query meets a key, by their tokens."""


@st.composite
def cases(draw: st.DrawFn) -> tuple[Groups, int | None, list[list[Span]], list[Span]]:
    """Groups of two rows, a window, the spans that each rank holds, and blocks of keys that cover all."""
    ranks = draw(st.sampled_from([1, 2, 3]))
    length = ranks * draw(st.integers(1, 16))
    cuts = [sorted({0, length, *draw(st.lists(st.integers(1, length), max_size=3))}) for _ in range(2)]
    groups = [list(pairwise(own)) for own in cuts]
    layout = Layout(world=ranks, gather=ranks)
    held = [layout.share(rank, 0, length) for rank in range(ranks)]
    borders = sorted({0, length, *draw(st.lists(st.integers(1, length), max_size=4))})
    return groups, draw(st.none() | st.integers(1, length + 3)), held, list(pairwise(borders))


def allowed(groups: Groups, window: int | None, spans: list[Span]) -> Pairs:
    return Counter(
        (row, query, key)
        for row, own in enumerate(groups)
        for begin, end in own
        for start, stop in spans
        for query in range(max(begin, start), min(end, stop))
        for key in range(begin, query + 1)
        if window is None or query - key < window
    )


def within(tile: Tile, query: int, key: int) -> bool:
    """Tell what the kernel is told of a tile, by places from its corner."""
    return {"whole": True, "until": key <= query, "since": key >= query}[tile.edge]


def met(tiles: list[Tile], queries: list[int], keys: list[int]) -> Pairs:
    """Count the pairs of tiles whose places stand for these tokens."""
    return Counter(
        (tile.row, queries[query], keys[key])
        for tile in tiles
        for i, query in enumerate(range(*tile.queries))
        for j, key in enumerate(range(*tile.keys))
        if within(tile, i, j)
    )


@given(cases())
def test_squares_and_meetings_are_what_may_meet_and_each_once(case) -> None:
    groups, window, held, blocks = case
    for spans in held:
        own = list(pieces(groups, spans, window))
        places = [token for span in spans for token in range(*span)]
        found = met(squares(own), places, places)
        for block in blocks:
            found += met(meetings(own, block, window), places, list(range(*block)))
        assert found == allowed(groups, window, spans)


@given(cases())
def test_what_a_kernel_masks_is_a_square(case) -> None:
    groups, window, held, blocks = case
    for spans in held:
        own = list(pieces(groups, spans, window))
        tiles = squares(own) + [tile for block in blocks for tile in meetings(own, block, window)]
        for tile in tiles:
            (first, last), (low, high) = tile.queries, tile.keys
            assert first < last
            assert low < high
            assert tile.edge == "whole" or last - first == high - low
