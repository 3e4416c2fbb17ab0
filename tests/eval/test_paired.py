"""Intervals against closed forms, by simulated coverage, and the claims drawn from them."""

import numpy as np
import pytest

from ropewalk.eval import mean_interval, paired_difference, proportion_interval
from ropewalk.eval.paired import student_quantile


def test_the_estimate_is_the_difference_of_token_means():
    rng = np.random.default_rng(0)
    a, b, tokens = rng.normal(size=20), rng.normal(size=20), rng.integers(1, 900, 20)
    interval = paired_difference(a, b, weights=tokens)
    assert interval.estimate == pytest.approx(np.average(a, weights=tokens) - np.average(b, weights=tokens))
    assert interval.low < interval.estimate < interval.high
    assert interval.n == interval.differing == 20


def test_many_items_give_the_normal_interval():
    rng = np.random.default_rng(1)
    a, b = rng.normal(0.3, 1, 900), rng.normal(0, 1, 900)
    interval = paired_difference(a, b)
    half = 1.96 * (a - b).std(ddof=1) / 30
    assert interval.low == pytest.approx(interval.estimate - half, abs=0.05 * half)
    assert interval.high == pytest.approx(interval.estimate + half, abs=0.05 * half)


def test_weighted_items_give_the_interval_of_the_ratio_estimator():
    rng = np.random.default_rng(2)
    tokens = rng.integers(1, 50, 900).astype(float)
    values = rng.normal(1, 1, 900) + tokens / 50
    interval = mean_interval(values, weights=tokens)
    share = tokens / tokens.sum()
    half = 1.96 * np.sqrt((share**2 * (values - share @ values) ** 2).sum())
    assert interval.high - interval.low == pytest.approx(2 * half, rel=0.05)


def test_few_items_are_covered_as_often_as_promised():
    rng = np.random.default_rng(3)
    trials = [paired_difference(x, np.zeros(12), resamples=800) for x in rng.normal(0, 1, (600, 12))]
    covered = np.mean([t.low <= 0 <= t.high for t in trials])
    assert 0.93 <= covered <= 0.975  # plain percentiles: 0.90


def test_pairing_removes_what_documents_have_in_common():
    rng = np.random.default_rng(4)
    hardness = rng.normal(0, 1, 30)
    worse, better = hardness + rng.normal(0.05, 0.02, 30), hardness + rng.normal(0, 0.02, 30)
    paired = paired_difference(worse, better)
    alone = mean_interval(worse)
    assert paired.distinguishable
    assert (alone.high - alone.low) > 20 * (paired.high - paired.low)


def test_the_same_seed_gives_the_same_interval_and_swapping_mirrors_it():
    a, b = np.random.default_rng(5).normal(size=(2, 15))
    one, again, other = paired_difference(a, b), paired_difference(a, b), paired_difference(a, b, seed=1)
    mirrored = paired_difference(b, a)
    assert one == again
    assert one.low != other.low
    assert (mirrored.low, mirrored.high) == pytest.approx((-one.high, -one.low))


def test_blocks_of_resamples_do_not_change_the_interval(monkeypatch: pytest.MonkeyPatch):
    a = np.random.default_rng(6).normal(size=64)
    whole = mean_interval(a)
    monkeypatch.setattr("ropewalk.eval.paired._BLOCK", 64 * 500)
    assert mean_interval(a).low == pytest.approx(whole.low, abs=0.03)


def test_weightless_items_count_for_nothing():
    rng = np.random.default_rng(7)
    values, weights = rng.normal(size=40), np.tile([1.0, 0.0], 20)
    wild = np.where(weights > 0, values, 1e9)
    assert mean_interval(wild, weights=weights) == mean_interval(values, weights=weights)


@pytest.mark.parametrize(
    ("differences", "told_apart"),
    [
        ([0.0] * 30, False),
        ([1.0] * 5, False),  # no width, yet five heads in a row come up at 6 %
        ([1.0] * 6, True),
        ([1.0] * 5 + [0.0] * 95, False),
        ([1.0] * 30, True),
        ([-1.0] * 30, True),
        ([1.0, -1.0] * 15, False),
    ],
)
def test_a_difference_is_claimed_only_where_a_sign_test_could_claim_it(differences, told_apart):
    assert mean_interval(differences).distinguishable is told_apart


@pytest.mark.parametrize(
    ("freedom", "expected"),
    [(1, 12.706), (2, 4.303), (3, 3.182), (5, 2.571), (11, 2.201), (30, 2.042), (500, 1.965)],
)
def test_student_quantiles_are_those_of_the_table(freedom, expected):
    assert student_quantile(0.975, freedom) == pytest.approx(expected, abs=0.005)


@pytest.mark.parametrize(
    ("hits", "n", "low", "high"),
    [
        (0, 10, 0.0, 0.2775),
        (10, 10, 0.7225, 1.0),
        (8, 10, 0.4902, 0.9433),
        (1, 20, 0.0089, 0.2361),
        (0, 1, 0.0, 0.7935),
    ],
)
def test_proportions_have_wilsons_interval(hits, n, low, high):
    interval = proportion_interval(hits, n)
    assert (interval.low, interval.high) == pytest.approx((low, high), abs=1e-4)
    assert interval.estimate == hits / n
