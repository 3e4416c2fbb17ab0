"""Spans, ranks and legal degrees, asked for every rank of a world in one process."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ropewalk.train import Layout, TrainError, layout, legal_sequences
from ropewalk.train.layout import legal_heads, split_sequence

LLAMA, QWEN, SMALL = (32, 8), (28, 4), (14, 2)  # heads of Llama-3-8B, Qwen2.5-7B and 0.5B
LENGTH = 2**12 * 3 * 5 * 7
DEGREES = st.tuples(st.integers(1, 3), st.integers(1, 4), st.integers(1, 6))


def tokens(spans: list[tuple[int, int]]) -> list[int]:
    return [token for start, stop in spans for token in range(start, stop)]


@given(degrees=DEGREES, start=st.integers(0, 50), size=st.integers(1, 30))
def test_spans_tile_any_range_once_in_equal_parts(degrees: tuple[int, int, int], start: int, size: int):
    data, heads, gather = degrees
    made = Layout(world=data * heads * gather, heads=heads, gather=gather)
    stop = start + size * made.sequence
    for group in range(data):
        held = [tokens(made.spans(rank, start, stop)) for rank in made.sequence_ranks(group)]
        assert sorted(token for one in held for token in one) == list(range(start, stop))
        assert {len(one) for one in held} == {size}
        assert all(one == sorted(one) for one in held)
        assert {made.data_rank(rank) for rank in made.sequence_ranks(group)} == {group}


@given(degrees=DEGREES, size=st.integers(1, 30))
def test_a_heads_group_holds_its_share_in_the_order_of_its_ranks(degrees: tuple[int, int, int], size: int):
    data, heads, gather = degrees
    made = Layout(world=data * heads * gather, heads=heads, gather=gather)
    stop = size * made.sequence
    for ranks in made.heads_groups():
        held = [token for rank in ranks for token in tokens(made.spans(rank, 0, stop))]
        assert held == tokens(made.share(made.gather_rank(ranks[0]), 0, stop))


def busiest(made: Layout, lengths: list[int]) -> float:
    """Give the most causal work of a gather rank over the mean, for documents of these lengths end to end."""
    work = np.concatenate([np.arange(1, length + 1) for length in lengths])
    ranks = [sum(work[a:b].sum() for a, b in made.share(r, 0, len(work))) for r in range(made.gather)]
    return float(max(ranks) / np.mean(ranks))


@pytest.mark.parametrize("gather", [2, 4, 8])
@pytest.mark.parametrize("lengths", [[8192], [2048, 4096, 2048], [256] * 32])
def test_causal_work_is_even(gather: int, lengths: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    made = Layout(world=gather, gather=gather)
    assert busiest(made, lengths) <= 1.01
    monkeypatch.setattr(layout, "ROUNDS", 2)
    if len(lengths) == 3 and gather == 2:
        assert busiest(made, lengths) > 1.3


@pytest.mark.parametrize(
    ("heads", "world", "degrees", "whole"),
    [
        (LLAMA, 256, {64: 32, 128: 32, 256: 32}, [1, 2, 4, 8, 16, 32]),
        (QWEN, 64, {4: 4, 8: 4, 16: 4, 64: 4}, [1, 2, 4]),
        (SMALL, 14, {2: 2, 7: 1, 14: 14}, [1, 2, 14]),
        ((8, 4), 8, {8: 8}, [1, 2, 4, 8]),
    ],
)
def test_degrees_of_published_heads(
    heads: tuple[int, int], world: int, degrees: dict[int, int], whole: list[int]
) -> None:
    legal = legal_sequences(world, [heads], length=LENGTH)
    assert legal == [degree for degree in range(1, world + 1) if world % degree == 0]
    assert {degree: split_sequence(degree, [heads], replicate=True) for degree in degrees} == degrees
    assert legal_sequences(world, [heads], length=LENGTH, whole=True) == whole


def test_with_chunks_no_more_ranks_than_kv_heads_divide_the_heads() -> None:
    assert split_sequence(32, [LLAMA], replicate=False) == 8
    made = Layout.of(64, 32, [LLAMA], replicate=False)
    assert (made.heads, made.gather, made.data) == (8, 4, 2)
    assert Layout.of(64, 32, [LLAMA], divide=4).gather == 8


def test_a_degree_suits_the_heads_of_every_layer() -> None:
    assert legal_heads(8, [(8, 8), (8, 2)], replicate=False) == [1, 2]
    assert legal_heads(12, [(12, 4), (12, 3)], replicate=True) == [1, 12]


def test_length_limits_the_degrees() -> None:
    assert legal_sequences(8, [(8, 8)], length=6) == [1, 2]


@pytest.mark.parametrize(
    ("make", "value", "cure"),
    [
        (lambda: Layout(world=6, heads=4), "4", "[1, 2, 3, 6]"),
        (lambda: Layout(world=4, heads=2, gather=2).spans(0, 0, 10), "4", "[1, 2]"),
    ],
)
def test_bad_input(make: object, value: str, cure: str) -> None:
    with pytest.raises(TrainError, match=r"train\.sequence") as caught:
        make()  # type: ignore[operator]
    assert f"got {value}" in str(caught.value)
    assert cure in str(caught.value)
