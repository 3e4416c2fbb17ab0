"""What is stored is what a later token can see, and what a chunk meets is all that its queries may."""

from collections import Counter
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from ropewalk.train.attention.reach import own_rounds, reach, stored_rounds
from ropewalk.train.attention.tiles import Groups
from ropewalk.train.layout import Layout
from ropewalk.train.streaming import chunks


@st.composite
def cases(draw: st.DrawFn) -> tuple[Layout, Groups, int, int, int | None]:
    """A layout, groups of two rows, their length, a chunk and a window."""
    gather = draw(st.sampled_from([1, 2, 3]))
    length = gather * draw(st.integers(2, 14))
    cuts = [sorted({0, length, *draw(st.lists(st.integers(1, length), max_size=3))}) for _ in range(2)]
    chunk = gather * draw(st.integers(1, length // gather))
    window = draw(st.none() | st.integers(1, length))
    return Layout(world=gather, gather=gather), [list(pairwise(own)) for own in cuts], length, chunk, window


def seen_later(groups: Groups, border: int, window: int | None) -> set[int]:
    """Name the tokens before a border that a query from there on sees."""
    return {
        key
        for own in groups
        for begin, end in own
        for query in range(max(begin, border), end)
        for key in range(begin, border)
        if window is None or query - key < window
    }


@given(cases())
def test_stored_rounds_are_those_that_later_tokens_see(case) -> None:
    layout, groups, length, size, window = case
    for chunk in chunks(length, size)[:-1]:
        seen = {key for key in seen_later(groups, chunk[1], window) if key >= chunk[0]}
        stored = stored_rounds(layout, groups, chunk, window)
        kept = {token for _, span in stored for token in range(*span)}
        assert seen <= kept
        if layout.gather == 1:  # nothing but these; else whole rounds of them
            assert kept == (set(range(min(seen), chunk[1])) if seen else set())
        assert all(seen & set(range(span[0], chunk[1])) for _, span in stored)
    assert stored_rounds(layout, groups, chunks(length, size)[-1], window) == []


@given(cases())
def test_each_pair_is_met_once_wherever_its_key_waits(case) -> None:
    layout, groups, length, size, window = case
    cut = chunks(length, size)
    for rank in range(layout.gather):
        for number, chunk in enumerate(cut):
            found = reach(layout, rank, groups, chunk, cut[:number], window)
            own = [token for span in layout.share(rank, *chunk) for token in range(*span)]
            pairs = Counter(
                (tile.row, own[query], own[key])
                for tile in found.squares
                for i, query in enumerate(range(*tile.queries))
                for j, key in enumerate(range(*tile.keys))
                if j <= i
            )
            for block in found.blocks:
                for tile in block.tiles:
                    cells = [
                        (own[query], block.span[0] + key, i, j)
                        for i, query in enumerate(range(*tile.queries))
                        for j, key in enumerate(range(*tile.keys))
                    ]
                    for query, key, i, j in cells:
                        pairs[tile.row, query, key] += tile.edge == "whole" or j >= i
            wanted = {
                (row, query, key)
                for row, spans in enumerate(groups)
                for begin, end in spans
                for query in own
                if begin <= query < end
                for key in range(begin, query + 1)
                if window is None or query - key < window
            }
            assert {pair for pair, times in pairs.items() if times} == wanted
            assert all(times <= 1 for times in pairs.values())


@given(cases())
def test_all_ranks_exchange_the_same_blocks(case) -> None:
    layout, groups, length, size, window = case
    cut = chunks(length, size)
    for number, chunk in enumerate(cut):
        each = [reach(layout, rank, groups, chunk, cut[:number], window) for rank in range(layout.gather)]
        blocks = [[(block.span, block.number, block.places) for block in one.blocks] for one in each]
        assert all(other == blocks[0] for other in blocks)
        assert all(any(one.blocks[i].tiles for one in each) for i in range(len(blocks[0])))


def test_places_of_a_round_are_those_of_its_tokens() -> None:
    layout = Layout(world=3, gather=3)
    for rank in range(3):
        own = [token for span in layout.share(rank, 12, 75) for token in range(*span)]
        for number, span, places in own_rounds(layout, (12, 75)):
            assert own[slice(*places)] == list(range(*layout.part(rank, number, span)))
