"""Packing loses no token, overfills no pack, and leaves as little room as best fit can."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ropewalk.data.packing.fit import best_fit, pack
from ropewalk.data.packing.tables import tables

LENGTHS = st.lists(st.integers(1, 400), min_size=1, max_size=60).map(np.array)
SIZES = st.integers(2, 130)


@given(lengths=LENGTHS, size=SIZES)
def test_packing_is_lossless(lengths: np.ndarray, size: int):
    packing = pack(lengths, size)
    for item, length in enumerate(lengths):
        own = packing.item == item
        order = np.argsort(packing.start[own])
        ends = np.cumsum(packing.length[own][order])
        assert packing.start[own][order].tolist() == [0, *ends[:-1]]
        assert ends[-1] == length
    filled = np.bincount(packing.pack, weights=packing.length)
    assert filled.max() <= size
    assert filled.min() > 0


@given(lengths=LENGTHS, size=st.integers(400, 800))
def test_no_two_packs_could_be_one(lengths: np.ndarray, size: int):
    filled = np.sort(np.bincount(best_fit(lengths, size), weights=lengths))
    assert len(filled) == 1 or filled[0] + filled[1] > size


def test_best_fit_reaches_the_lower_bound_at_an_odd_length():
    lengths = np.random.default_rng(0).lognormal(6, 1.5, 20_000).astype(np.int64).clip(1, 100_003)
    assert best_fit(lengths, 100_003).max() + 1 == -(-lengths.sum() // 100_003)


@given(lengths=LENGTHS, size=SIZES, whole=st.randoms(use_true_random=False))
def test_tables_cover_every_piece_once(lengths: np.ndarray, size: int, whole):
    scopes = np.array([whole.random() < 0.5 for _ in lengths])
    rows = 1000 + np.arange(len(lengths))
    segments, packs = tables(rows, lengths, scopes, size, seed=3)
    taken = np.zeros(len(lengths), np.int64)
    np.add.at(taken, segments["document"] - 1000, segments["length"])
    assert taken.tolist() == lengths.tolist()
    assert packs["filled"].sum() == lengths.sum()
    assert packs["segments"].sum() == len(segments)
    for row in packs:
        own = segments[row["first"] : row["first"] + row["segments"]]
        assert own["offset"].tolist() == [0, *np.cumsum(own["length"])[:-1]]
        assert len(set(scopes[own["document"] - 1000])) == 1


def test_the_order_of_packs_is_drawn():
    lengths = np.full(50, 10)
    made = [
        tables(np.arange(50), lengths, np.zeros(50, bool), 10, seed=seed)[0]["document"] for seed in (0, 0, 1)
    ]
    assert made[0].tolist() == made[1].tolist() != made[2].tolist()


@pytest.mark.slow
def test_a_million_documents_pack_at_four_million():
    lengths = np.random.default_rng(0).lognormal(6, 1.5, 1_000_000).astype(np.int64).clip(1)
    packing = pack(lengths, 1 << 22)
    assert packing.packs * (1 << 22) - lengths.sum() < 2 << 22
