"""The tables hold every token once, in packs of one scope, with the positions that the scope says."""

from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ropewalk.data.packing.tables import Items, Scope, tables

SCOPES = [
    Scope(),
    Scope(groups="pack", positions="continuous"),
    Scope(positions="continuous"),
    Scope(positions="skip", skip_chunks=3),
    Scope(groups="pack", positions="skip"),
]
REACH = 1000


@st.composite
def some_items(draw: st.DrawFn, scope: int) -> Items:
    """Items of several spans, no row twice, so that a token is known by row and place."""
    spans = draw(
        st.lists(
            st.lists(st.tuples(st.integers(0, 90), st.booleans()), min_size=1, max_size=4),
            min_size=1,
            max_size=12,
        )
    )
    flat = [(item, *span) for item, own in enumerate(spans) for span in own]
    item, length, trained = (np.array(values) for values in zip(*flat, strict=True))
    rows = 1000 * scope + np.arange(len(flat))
    start = rows % 7
    return Items(item=item, row=rows, start=start, length=length, trained=trained)


@st.composite
def some_parts(draw: st.DrawFn) -> list[tuple[Items, Scope]]:
    chosen = draw(st.lists(st.sampled_from(range(len(SCOPES))), min_size=1, max_size=4, unique=True))
    return [(draw(some_items(number)), SCOPES[number]) for number in chosen]


def span(table: np.ndarray) -> list[tuple[int, int]]:
    """List (row, token of it) of every token of segments."""
    told = table[["document", "start", "length"]].tolist()
    return [(row, start + i) for row, start, length in told for i in range(length)]


@given(parts=some_parts(), size=st.integers(4, 130), fit=st.sampled_from(["best-fit", "concatenate"]))
def test_every_token_stands_once_where_its_scope_says(
    parts: list[tuple[Items, Scope]], size: int, fit: Literal["best-fit", "concatenate"]
):
    segments, packs = tables(parts, size, reach=REACH, fit=fit, seed=3)
    wanted = [
        (row, start + i)
        for items, _ in parts
        for row, start, length in zip(items.row, items.start, items.length, strict=True)
        for i in range(length)
    ]
    assert sorted(span(segments)) == sorted(wanted)
    assert packs["segments"].sum() == len(segments)
    for row in packs:
        own = segments[row["first"] : row["first"] + row["segments"]]
        assert own["offset"].tolist() == [0, *np.cumsum(own["length"])[:-1]]
        assert row["filled"] == own["length"].sum() <= size
        [scope] = {SCOPES[document // 1000] for document in own["document"]}
        check_groups(own, scope, size, row)


def check_groups(own: np.ndarray, scope: Scope, size: int, row: Any) -> None:
    """Hold a pack's groups, positions and counts to their definitions, token by token."""
    group = np.repeat(own["group"], own["length"])
    trained = np.repeat(own["trained"], own["length"])
    positions = np.concatenate(
        [np.arange(length) + at for at, length in own[["position", "length"]].tolist()]
    )
    heads = np.flatnonzero(np.diff(group, prepend=-1))
    assert group[heads].tolist() == list(range(len(heads)))
    if scope.groups == "pack":
        assert len(heads) == 1
    targets = trained.copy()
    targets[heads] = False
    assert row["trained"] == targets.sum()
    assert row["cost"] == sum(n * n for n in np.bincount(group)) + (size - len(group)) ** 2
    for number in range(len(heads)):
        own_positions, places = positions[group == number], np.flatnonzero(group == number)
        if scope.positions == "continuous":
            assert own_positions.tolist() == places.tolist()
        elif scope.positions == "reset":
            assert own_positions.tolist() == list(range(len(places)))
        else:
            jumps = np.diff(own_positions)
            assert own_positions[0] == 0
            assert (jumps >= 1).all()
            assert own_positions[-1] < REACH
            assert (jumps > 1).sum() < scope.skip_chunks


def test_documents_of_several_spans_stay_together_and_in_order():
    items = Items(
        item=np.array([0, 0, 1]),
        row=np.array([5, 2, 9]),
        start=np.array([10, 0, 3]),
        length=np.array([4, 6, 5]),
        trained=np.array([True, False, True]),
    )
    segments, packs = tables([(items, Scope())], 15, reach=15, seed=0)
    [first] = np.flatnonzero(segments["document"] == 5)
    assert segments["document"][first + 1] == 2
    assert len(packs) == 1
    assert sorted(segments["group"].tolist()) in ([0, 0, 1], [0, 1, 1])
    assert packs["trained"][0] == 3 + 4


def test_equal_scopes_share_packs_and_others_do_not():
    items = [Items.whole(np.arange(3) + 10 * n, np.full(3, 4)) for n in range(3)]
    pooled = Scope(groups="pack")  # one group, from 0: what `continuous` says too
    scopes = [pooled, Scope(groups="pack", positions="continuous"), Scope()]
    _, packs = tables(list(zip(items, scopes, strict=True)), 24, reach=24, seed=0)
    assert sorted(packs["filled"].tolist()) == [12, 24]


def test_the_order_of_packs_is_drawn():
    items = Items.whole(np.arange(50), np.full(50, 10))
    made = [tables([(items, Scope())], 10, reach=10, seed=seed)[0]["document"] for seed in (0, 0, 1)]
    assert made[0].tolist() == made[1].tolist() != made[2].tolist()


@pytest.mark.parametrize("fit", ["best-fit", "concatenate"])
def test_nothing_makes_no_pack(fit: Literal["best-fit", "concatenate"]):
    empty = Items.whole(np.zeros(0, np.int64), np.zeros(0, np.int64))
    segments, packs = tables([(empty, Scope(positions="skip"))], 8, reach=9, fit=fit)
    assert len(segments) == len(packs) == 0
