"""Spans, ranks and legal degrees, asked for every rank of a world in one process."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ropewalk.train import Layout, TrainError, legal_degrees


@given(data=st.integers(1, 5), sequence=st.integers(1, 8), piece=st.integers(1, 9))
def test_spans_tile_every_pack_once(data: int, sequence: int, piece: int) -> None:
    layout = Layout(world=data * sequence, sequence=sequence)
    for group in range(data):
        spans = [layout.span(rank, piece * sequence) for rank in layout.sequence_ranks(group)]
        held = [token for start, stop in spans for token in range(start, stop)]
        assert held == list(range(piece * sequence))
        assert {layout.data_rank(rank) for rank in layout.sequence_ranks(group)} == {group}


@pytest.mark.parametrize(
    ("heads", "world", "degrees"),
    [
        ((32, 8), 64, [1, 2, 4, 8, 16, 32]),  # Llama-3-8B
        ((28, 4), 8, [1, 2, 4]),  # Qwen2.5-7B: no 8 on an 8-GPU node
        ((14, 2), 14, [1, 2, 14]),  # Qwen2.5-0.5B
        ((8, 4), 8, [1, 2, 4, 8]),
    ],
)
def test_legal_degrees_of_published_heads(heads: tuple[int, int], world: int, degrees: list[int]) -> None:
    length = 2**12 * 3 * 5 * 7
    assert legal_degrees(query_heads=heads[0], kv_heads=heads[1], length=length, world=world) == degrees


def test_length_limits_the_degrees() -> None:
    assert legal_degrees(query_heads=8, kv_heads=8, length=6, world=8) == [1, 2]


@pytest.mark.parametrize(
    ("make", "value", "cure"),
    [
        (lambda: Layout(world=6, sequence=4), "4", "[1, 2, 3, 6]"),
        (lambda: Layout(world=4, sequence=4).span(0, 10), "4", "[1, 2]"),
    ],
)
def test_bad_input(make: object, value: str, cure: str) -> None:
    with pytest.raises(TrainError, match=r"train\.sequence") as caught:
        make()  # type: ignore[operator]
    assert f"got {value}" in str(caught.value)
    assert cure in str(caught.value)
