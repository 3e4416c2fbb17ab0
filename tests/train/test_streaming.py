"""Chunks are visited as causality asks: a first pass where something crosses its border, and nowhere else."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ropewalk.train.settings import TrainSection
from ropewalk.train.streaming import Visit, chunks, islands, on_host, visits


@st.composite
def packs(draw: st.DrawFn) -> tuple[int, int, list[list[tuple[int, int]]]]:
    """A length, a chunk and the groups of up to three packs that go together."""
    length = draw(st.integers(1, 30))
    cuts = [
        sorted({0, length, *draw(st.lists(st.integers(1, length), max_size=5))})
        for _ in range(draw(st.integers(1, 3)))
    ]
    return length, draw(st.integers(1, length)), [list(pairwise(own)) for own in cuts]


@given(packs())
def test_a_chunk_meets_all_earlier_ones_that_its_tokens_can_see_and_they_are_in_the_store(case) -> None:
    length, size, groups = case
    cut = chunks(length, size)
    stored: set[tuple[int, int]] = set()
    trained: list[tuple[int, int]] = []
    for visit in visits(cut, groups):
        seen = {
            chunk
            for own in groups
            for begin, end in own
            for chunk in cut
            if chunk[1] <= visit.chunk[0]
            and begin < chunk[1]
            and end > visit.chunk[0]
            and visit.chunk[1] > begin
        }
        assert seen <= set(visit.earlier) <= stored
        if visit.first_pass:
            stored.add(visit.chunk)
        else:
            trained.append(visit.chunk)
    assert sorted(trained) == cut


@given(packs())
def test_a_first_pass_is_made_only_where_a_group_crosses_the_border(case) -> None:
    length, size, groups = case
    order = list(visits(chunks(length, size), groups))
    first = [visit.chunk for visit in order if visit.first_pass]
    assert first == [
        chunk
        for chunk in chunks(length, size)
        if any(begin < chunk[1] < end for own in groups for begin, end in own)
    ]


@given(packs())
def test_later_chunks_go_backward_before_those_they_see(case) -> None:
    length, size, groups = case
    done: list[tuple[int, int]] = []
    for visit in visits(chunks(length, size), groups):
        if visit.first_pass:
            continue
        later = [chunk for island in islands(chunks(length, size), groups) for chunk in island
                 if visit.chunk in island and chunk > visit.chunk]  # fmt: skip
        assert set(later) <= set(done)
        done.append(visit.chunk)


def test_the_order_of_three_chunks() -> None:
    first, second, third = chunks(10, 4)
    assert (first, second, third) == ((0, 4), (4, 8), (8, 10))
    assert list(visits([first, second, third], [[(0, 4), (4, 10)]])) == [
        Visit(first, [], False),
        Visit(second, [], True),
        Visit(third, [second], False),
        Visit(second, [], False),
    ]
    assert chunks(10, None) == [(0, 10)]


@pytest.mark.parametrize(
    ("store", "layers"),
    [("device", []), ("host", [0, 1, 2]), ({"device_layers": 1}, [1, 2]), ({"device_layers": 9}, [])],
)
def test_where_the_layers_of_the_store_are(store: object, layers: list[int]) -> None:
    settings = TrainSection.model_validate(
        {
            "steps": 1,
            "batch_tokens": 8,
            "learning_rate": 1.0,
            "checkpoint_every": 1,
            "store": store,
            "chunk": 4,
        }
    )
    assert [layer for layer in range(3) if on_host(settings)(layer)] == layers
