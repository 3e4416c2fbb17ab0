"""Packing loses no token, overfills no pack, and leaves as little room as best fit can."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ropewalk.data.packing.fit import Fit, Packing, best_fit, pack

LENGTHS = st.lists(st.integers(1, 400), min_size=1, max_size=60).map(np.array)
SIZES = st.integers(2, 130)


def packed(lengths: np.ndarray, size: int, fit: Fit = "best-fit", seed: int = 0) -> Packing:
    return pack(lengths, size, fit=fit, rng=np.random.default_rng(seed))


def one_by_one(lengths: np.ndarray, size: int) -> list[int]:
    """Best-fit decreasing as its definition reads: how full each bin is, sorted."""
    room: list[int] = []
    for length in sorted(lengths.tolist(), reverse=True):
        fitting = [left for left in room if left >= length]
        if fitting:
            room.remove(min(fitting))
        room.append((min(fitting) if fitting else size) - length)
    return sorted(size - left for left in room)


@pytest.mark.parametrize("fit", ["best-fit", "concatenate"])
@given(lengths=LENGTHS, size=SIZES, empty=st.integers(0, 3))
def test_packing_is_lossless(fit: Fit, lengths: np.ndarray, size: int, empty: int):
    lengths = np.append(lengths, np.zeros(empty, int))
    packing = packed(lengths, size, fit)
    for item, length in enumerate(lengths):
        own = packing.item == item
        order = np.argsort(packing.start[own])
        ends = np.cumsum(packing.length[own][order])
        assert packing.start[own][order].tolist() == [0, *ends[:-1]][: own.sum()]
        assert ends[-1:].sum() == length
    filled = np.bincount(packing.pack, weights=packing.length)
    assert filled.max() <= size
    assert filled.min() > 0
    assert packing.length.min() > 0


@given(lengths=st.lists(st.integers(1, 25), min_size=1, max_size=80).map(np.array), size=st.integers(25, 60))
def test_bins_are_as_full_as_best_fit_decreasing_leaves_them(lengths: np.ndarray, size: int):
    filled = np.bincount(best_fit(lengths, size), weights=lengths)
    assert sorted(filled.tolist()) == one_by_one(lengths, size)


@given(lengths=LENGTHS, size=st.integers(400, 800))
def test_no_two_packs_could_be_one(lengths: np.ndarray, size: int):
    filled = np.sort(np.bincount(best_fit(lengths, size), weights=lengths))
    assert len(filled) == 1 or filled[0] + filled[1] > size


def test_best_fit_reaches_the_lower_bound_at_an_odd_length():
    lengths = np.random.default_rng(0).lognormal(6, 1.5, 20_000).astype(np.int64).clip(1, 100_003)
    assert best_fit(lengths, 100_003).max() + 1 == -(-lengths.sum() // 100_003)


@given(lengths=LENGTHS, size=SIZES, seed=st.integers(0, 5))
def test_a_concatenation_is_cut_where_packs_end(lengths: np.ndarray, size: int, seed: int):
    packing = packed(lengths, size, "concatenate", seed)
    filled = np.bincount(packing.pack, weights=packing.length)
    assert (filled[:-1] == size).all()
    order = np.lexsort((packing.rank, packing.pack))
    run = [
        (item, start + i)
        for item, start, length in zip(
            packing.item[order], packing.start[order], packing.length[order], strict=True
        )
        for i in range(length)
    ]
    drawn = np.random.default_rng(seed).permutation(len(lengths))
    assert run == [(item, i) for item in drawn for i in range(lengths[item])]


@pytest.mark.slow
def test_a_million_documents_pack_at_four_million():
    lengths = np.random.default_rng(0).lognormal(6, 1.5, 1_000_000).astype(np.int64).clip(1)
    packing = packed(lengths, 1 << 22)
    assert packing.packs * (1 << 22) - lengths.sum() < 2 << 22
