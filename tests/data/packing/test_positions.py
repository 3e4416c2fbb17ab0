"""Skipped positions are PoSE's: increasing, inside the target window, and spread over all its distances."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ropewalk.data.packing.tables import Skips, draw_skips


def drawn(lengths: list[int], chunks: int, reach: int, seed: int = 0) -> Skips:
    rng = np.random.default_rng(seed)
    return draw_skips(np.array(lengths), np.full(len(lengths), chunks), reach, rng)


def positions(skips: Skips, group: int, length: int) -> np.ndarray:
    found = np.arange(length)
    own = skips.group == group
    for place, skipped in zip(skips.place[own], skips.skipped[own], strict=True):
        found[place:] = np.arange(place, length) + skipped
    return found


@given(
    lengths=st.lists(st.integers(1, 40), min_size=1, max_size=8),
    chunks=st.integers(2, 6),
    more=st.integers(0, 100),
    seed=st.integers(0, 9),
)
def test_positions_increase_inside_the_window(lengths: list[int], chunks: int, more: int, seed: int):
    reach = max(lengths) + more
    skips = drawn(lengths, chunks, reach, seed)
    for group, length in enumerate(lengths):
        found = positions(skips, group, length)
        assert found[0] == 0
        assert (np.diff(found) >= 1).all()
        assert found[-1] < reach
        assert (skips.group == group).sum() == min(chunks, length) - 1
        assert (np.diff(skips.place[skips.group == group]) >= 1).all()


def test_two_chunks_are_cut_and_moved_evenly():
    """Place is even on 1..L-1, the skip even on 0..R-L: 13 and 33 values, each seen as often as the next."""
    length, reach, groups = 14, 46, 100_000
    skips = drawn([length] * groups, 2, reach)
    for values, low, high in ((skips.place, 1, length - 1), (skips.skipped, 0, reach - length)):
        count = high - low + 1
        seen = np.bincount(values - low, minlength=count)
        assert len(seen) == count
        deviation = np.sqrt(groups / count * (1 - 1 / count))
        assert np.abs(seen - groups / count).max() < 5 * deviation
    assert abs(skips.skipped.mean() - (reach - length) / 2) < 0.2


def test_two_chunks_reach_every_distance():
    """The share of texts that have a pair at distance d is its chance over all places and skips."""
    length, reach, groups = 6, 20, 20_000
    cases = [(place, skipped) for place in range(1, length) for skipped in range(reach - length + 1)]
    chance = np.mean([distances(length, *case, reach) for case in cases], axis=0)
    skips = drawn([length] * groups, 2, reach)
    draws = zip(skips.place.tolist(), skips.skipped.tolist(), strict=True)
    seen = np.mean([distances(length, *draw, reach) for draw in draws], axis=0)
    assert (chance > 0).all()
    assert (seen > 0).all()
    assert np.abs(seen - chance).max() < 0.02


def distances(length: int, place: int, skipped: int, reach: int) -> np.ndarray:
    """Say which distances a text of two chunks has."""
    there = np.arange(length) + skipped * (np.arange(length) >= place)
    found = np.zeros(reach)
    found[np.abs(there[:, None] - there)] = 1
    return found


def test_later_chunks_go_on_from_the_skip_before():
    """u_2 is even between u_1 and R - L, so its mean is (u_1 + R - L) / 2, three quarters on average."""
    skips = drawn([10] * 50_000, 3, 1010)
    first, second = skips.skipped.reshape(-1, 2).T
    assert (second >= first).all()
    assert abs((second - (first + 1000) / 2).mean()) < 3
    assert abs(second.mean() - 750) < 5
