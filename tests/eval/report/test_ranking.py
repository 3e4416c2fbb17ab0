"""Rankings: intervals against a slow bootstrap, places against their rule, and how often chance makes one."""

from itertools import combinations

import numpy as np
import pytest
from world.evaluations import evaluation_of

from ropewalk.eval import Cell, Evaluation
from ropewalk.eval.paired import expanded_tail
from ropewalk.eval.report import ranking
from ropewalk.eval.report.ranking import rank, rankings
from ropewalk.eval.report.wording import ranking_sentence, unsure
from ropewalk.eval.result import cell_of
from ropewalk.eval.tasks.position_loss import PositionLoss

NAMES = [f"d{i}" for i in range(16)]
HARDNESS = np.random.default_rng(0).normal(3, 0.5, 16)
TOKENS = np.random.default_rng(1).integers(100, 900, 16)


def cell(values: np.ndarray, weights: np.ndarray = TOKENS) -> Cell:
    return cell_of(NAMES[: len(values)], values, weights, length=256, start=64)


def noisy(shift: float, seed: int, spread: float = 0.05) -> Cell:
    return cell(HARDNESS + shift + np.random.default_rng(seed).normal(0, spread, 16))


def slow_interval(a: np.ndarray, b: np.ndarray, level: float) -> tuple[float, float, float]:
    """Resample documents one by one, the same draws as the library makes."""
    drawn = np.random.default_rng(0).integers(16, size=(ranking.RESAMPLES, 16))
    means = np.array(
        [sum((a[i] - b[i]) * TOKENS[i] for i in row) / sum(TOKENS[i] for i in row) for row in drawn]
    )
    estimate = sum((a - b) * TOKENS) / sum(TOKENS)
    tail = expanded_tail(16, level)
    return estimate, float(np.quantile(means, tail)), float(np.quantile(means, 1 - tail))


def test_gains_are_the_slow_bootstrap_over_documents(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(ranking, "RESAMPLES", 4000)
    good, bad = noisy(0, 2), noisy(0.1, 3)
    best, other = rank({"bad": [bad], "good": [good]}, unit="nats", better="lower")
    assert (best.name, best.gain, other.name) == ("good", None, "bad")
    assert best.value.estimate == pytest.approx(np.average(good.values, weights=TOKENS))
    estimate, low, high = slow_interval(good.values, bad.values, 0.95)
    found = other.gain
    assert found is not None
    assert (found.interval.estimate, found.interval.low, found.interval.high) == pytest.approx(
        (estimate, low, high)
    )
    assert found.interval.n == 16


def test_better_may_be_higher():
    best, other = rank({"a": [noisy(0, 2)], "b": [noisy(0.3, 3)]}, unit="nats", better="higher")
    assert best.name == "b"
    assert other.gain is not None
    assert other.gain.interval.high < 0


def test_intervals_hold_for_all_pairs_at_once():
    models = {f"m{i}": [noisy(0.01 * i, i)] for i in range(5)}
    standings = rank(models, unit="nats", better="lower")
    assert [s.gain.interval.level for s in standings if s.gain] == [pytest.approx(1 - 0.05 / 10)] * 4


def test_equal_models_are_seldom_told_apart(monkeypatch: pytest.MonkeyPatch):
    """Of five equal models some pair differs at 95 % in a quarter of all rankings; here in one of twenty."""
    monkeypatch.setattr(ranking, "RESAMPLES", 1000)
    rng = np.random.default_rng(5)
    told = uncorrected = 0
    for _ in range(40):
        models = {name: [cell(rng.normal(0, 1, 16), np.ones(16))] for name in "abcde"}
        told += any(s.place > 1 for s in rank(models, unit="nats", better="lower"))
        pairs = combinations(models.values(), 2)
        uncorrected += any(ranking.difference(a, b, "lower", 0.95).distinguishable for a, b in pairs)
    assert told / 40 <= 0.1
    assert uncorrected / 40 >= 0.15


def test_places_are_chains_of_proven_differences():
    """b is between a and c and told from neither; only c is shown to be worse than a, and d than all."""
    models = {
        "a": [noisy(0, 10, 0.02)],
        "b": [noisy(0.06, 11, 0.4)],
        "c": [noisy(0.12, 12, 0.02)],
        "d": [noisy(3.0, 13, 0.02)],
    }
    found = {s.name: s for s in rank(models, unit="nats", better="lower")}
    assert {name: s.place for name, s in found.items()} == {"a": 1, "b": 1, "c": 2, "d": 3}
    assert [name for name, s in found.items() if s.gain and s.gain.distinguishable] == ["c", "d"]


def test_equal_models_share_the_first_place():
    both = rank({"a": [noisy(0, 1)], "b": [noisy(0, 1)]}, unit="nats", better="lower")
    assert [s.place for s in both] == [1, 1]
    assert both[1].gain is not None
    assert both[1].gain.interval.estimate == 0


def test_seeds_are_averaged_and_must_agree():
    worse = [noisy(0.2, 1, 0.01), noisy(0.4, 2, 0.01)]
    best, other = rank({"a": [noisy(0, 3, 0.01), noisy(0, 4, 0.01)], "b": worse}, unit="nats", better="lower")
    assert (best.name, other.place) == ("a", 2)
    assert other.gain is not None
    assert other.gain.by_seed == pytest.approx((-0.2, -0.4), abs=0.02)
    assert other.value.estimate == pytest.approx(np.average(HARDNESS, weights=TOKENS) + 0.3, abs=0.02)
    mixed = [noisy(0.6, 1, 0.01), noisy(-0.1, 2, 0.01)]
    best, other = rank({"a": [noisy(0, 3, 0.01), noisy(0, 4, 0.01)], "b": mixed}, unit="nats", better="lower")
    assert other.gain is not None
    assert other.gain.interval.distinguishable
    assert not other.gain.distinguishable
    assert other.place == 1


def test_a_mean_of_yes_and_no_over_seeds_is_no_count():
    found = [cell(np.arange(16) < hits, np.ones(16)) for hits in (9, 12)]
    [one] = rank({"a": found}, unit="fraction", better="higher")
    assert one.value.estimate == pytest.approx(21 / 32)


def evaluation(name: str, shift: float) -> Evaluation:
    task = PositionLoss(length=256, documents=16, edges=(64,))
    cells = [
        cell_of(
            NAMES, HARDNESS + shift * (start > 0), [63 if start == 0 else 192] * 16, start=start, length=stop
        )
        for start, stop in task.buckets()
    ]
    return evaluation_of(name, {"loss": task.result(cells, [np.arange(9)])})


def test_rows_are_split_at_the_boundary_and_said_in_words():
    models = {"yarn": [evaluation("yarn", 0.0)], "linear": [evaluation("linear", 0.5)]}
    inside, beyond = rankings(models, boundary=64)
    assert (inside["side"], inside["start"], inside["stop"]) == ("inside", 0, 64)
    assert (beyond["side"], beyond["start"], beyond["stop"]) == ("beyond", 64, 256)
    assert inside["places"] == {"yarn": 1, "linear": 1}
    assert beyond["places"] == {"yarn": 1, "linear": 2}
    assert beyond["gains"]["linear"]["value"] == pytest.approx(-0.5)
    assert "linear" in ranking_sentence(inside)
    assert "not distinguishable" in ranking_sentence(inside)
    assert "0.500 nats worse" in ranking_sentence(beyond)


@pytest.mark.parametrize(
    ("gained", "said"),
    [
        ({"low": -0.1, "high": 0.2, "n": 16, "differing": 4}, "not distinguishable"),
        ({"low": 0.064, "high": 0.076, "n": 4}, "too few that differ (4)"),
        ({"low": 0.1, "high": 0.2, "n": 16, "differing": 5}, "too few that differ (5)"),
        ({"low": 0.1, "high": 0.2, "n": 32, "differing": 32, "by_seed": [0.3, -0.1]}, "not distinguishable"),
    ],
)
def test_what_is_not_told_from_zero_is_not_said_against_its_interval(gained: dict, said: str):
    assert said in unsure(gained)
