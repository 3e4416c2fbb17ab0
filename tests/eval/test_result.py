"""Cells: what pooling keeps, and which sign a gain has."""

import numpy as np
import pytest

from ropewalk.eval import Result, make_task
from ropewalk.eval.result import cell_of, fingerprint_rows, gain, pool, split

RNG = np.random.default_rng(0)


def test_pooled_buckets_are_token_means_of_each_document():
    cells = [
        cell_of(["a", "b"], [1.0, 2.0], [10, 10], start=0, length=10),
        cell_of(["a", "b"], [4.0, 8.0], [30, 10], start=10, length=40),
    ]
    both = pool(cells)
    assert both.items == ("a", "b")
    assert (both.start, both.length, both.depth) == (0, 40, None)
    np.testing.assert_allclose(both.values, [(10 * 1 + 30 * 4) / 40, (10 * 2 + 10 * 8) / 20])
    np.testing.assert_allclose(both.weights, [40, 20])


def test_pooled_needles_stand_side_by_side():
    cells = [
        cell_of([f"{d}/{i}" for i in range(3)], [1, 0, 1], [1, 1, 1], length=64, depth=d) for d in (0.0, 1.0)
    ]
    both = pool(cells)
    assert len(both.items) == 6
    assert both.interval("fraction").estimate == pytest.approx(4 / 6)


@pytest.mark.parametrize(("better", "sign"), [("lower", -1), ("higher", 1)])
def test_a_gain_is_positive_where_the_model_is_better(better, sign):
    items = [str(i) for i in range(12)]
    base = cell_of(items, RNG.normal(size=12), [1] * 12, length=64)
    model = cell_of(items, base.values + sign * 0.5, [1] * 12, length=64)
    interval = gain(model, base, better)
    assert interval.estimate == pytest.approx(0.5)
    assert interval.distinguishable


def test_cells_are_split_where_the_reference_was_trained_to():
    spans = [(0, 32), (32, 64), (48, 80), (64, 128), (0, 128)]
    cells = [cell_of(["a"], [1.0], [1], start=start, length=stop) for start, stop in spans]
    inside, beyond = split(cells, 64)
    assert [(c.start, c.length) for c in inside] == spans[:2]
    assert [(c.start, c.length) for c in beyond] == spans[3:]  # what straddles is in neither
    assert split(cells[:1], 64) == [cells[:1]]


@pytest.mark.parametrize("kind", ["position_loss", "context_gain", "needles"])
def test_results_stored_before_tasks_had_words_are_read(kind):
    task = make_task(kind)
    stored = task.result([cell_of("ab", [1.0, 0.0], [1, 1], length=64)], [np.arange(3)]).json()
    old = {name: value for name, value in stored.items() if name not in ("quantity", "items", "axis")}
    assert Result.from_json(old).words == task.words


def test_a_fingerprint_sees_values_and_lengths():
    prints = [[[1, 2, 3]], [[1, 2], [3]], [[1, 2, 4]], [[3, 2, 1]]]
    hashes = {fingerprint_rows(np.array(row) for row in rows) for rows in prints}
    assert len(hashes) == len(prints)
    assert fingerprint_rows([np.array([1, 2], "uint32")]) == fingerprint_rows([np.array([1, 2], "int64")])
