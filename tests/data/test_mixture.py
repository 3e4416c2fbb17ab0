"""Budgets are met to the token, long shares exactly, and a draw neither depends on order nor shrinks."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ropewalk.data import DataError, FilesSource
from ropewalk.data.mixing.mixture import Selection, budgets, long_share, select

LENGTHS = st.lists(st.integers(1, 90), min_size=1, max_size=40).map(np.array)


def source(**fields: Any) -> FilesSource:
    return FilesSource.model_validate({"kind": "files", "paths": ["x"], "weight": 1.0, **fields})


def draw(lengths: np.ndarray, budget: int, seed: int = 0, **fields: Any) -> Selection:
    ids = [f"d{row}" for row in range(len(lengths))]
    return select(lengths, ids, source(**fields), budget=budget, seed=seed, where="data.sources.s")


@given(weights=st.lists(st.integers(0, 9), min_size=1).filter(any), tokens=st.integers(0, 10**13))
def test_budgets_sum_to_the_total(weights: list[int], tokens: int):
    shares = np.array(weights) / sum(weights)
    made = budgets(shares.tolist(), tokens)
    assert sum(made) == tokens
    assert np.allclose(made, shares * tokens, atol=1.01, rtol=1e-12)


@given(lengths=LENGTHS, part=st.floats(0.01, 3.0), seed=st.integers(0, 5))
def test_a_budget_is_met_to_the_token(lengths: np.ndarray, part: float, seed: int):
    budget = max(int(part * lengths.sum()), 1)
    drawn = draw(lengths, budget, seed, repeat=3.0)
    assert drawn.tokens == budget
    assert (drawn.taken >= 1).all()
    assert (drawn.taken < lengths[drawn.rows]).sum() == drawn.ends <= 1
    assert np.bincount(drawn.rows).max() <= 3
    assert drawn.trimmed == (lengths[drawn.rows] - drawn.taken).sum()


@given(lengths=LENGTHS, small=st.floats(0.05, 0.9), long=st.booleans())
def test_a_larger_budget_only_adds(lengths: np.ndarray, small: float, long: bool):
    fields: dict[str, Any] = {"repeat": 4.0, "long": {"at_least": 1, "share": 0.5} if long else None}
    tokens = int(lengths.sum())
    less, more = (draw(lengths, max(int(share * tokens), 1), **fields) for share in (small, 1.0))
    held = {(row, copy): taken for row, copy, taken in zip(more.rows, more.copies, more.taken, strict=True)}
    assert all(
        held[row, copy] >= taken for row, copy, taken in zip(less.rows, less.copies, less.taken, strict=True)
    )


@given(order=st.permutations(range(12)))
def test_the_draw_does_not_depend_on_the_order_of_documents(order: list[int]):
    lengths, ids = np.arange(3, 15), [f"d{row}" for row in range(12)]
    straight = select(lengths, ids, source(), budget=50, seed=1, where="s")
    mixed = select(lengths[order], [ids[i] for i in order], source(), budget=50, seed=1, where="s")
    assert [ids[i] for i in straight.rows] == [ids[order[i]] for i in mixed.rows]


@pytest.mark.parametrize(("share", "budget"), [(0.7, 1000), (0.9, 1100), (0.5, 1999), (1.0, 1000)])
def test_the_long_share_is_exact(share: float, budget: int):
    lengths = np.array([100] * 10 + [10] * 200)  # a third of the tokens in long documents
    drawn = draw(lengths, budget, long={"at_least": 100, "share": share})
    assert drawn.tokens == budget
    assert long_share(lengths[drawn.rows], drawn.taken, 100) == pytest.approx(share, abs=0.51 / budget)
    assert np.bincount(drawn.rows).max() == 1


def test_a_share_below_the_natural_one_changes_nothing():
    lengths = np.array([100] * 10 + [10] * 200)
    drawn = draw(lengths, 900, long={"at_least": 100, "share": 0.1})
    assert long_share(lengths[drawn.rows], drawn.taken, 100) == pytest.approx(1 / 3, abs=1e-3)


def test_an_infeasible_share_says_what_is_reachable():
    lengths = np.array([100] * 10 + [10] * 200)
    with pytest.raises(DataError, match=r"share 0\.500 at this budget") as caught:
        draw(lengths, 2000, long={"at_least": 100, "share": 0.8})
    for part in ("1,250 tokens at this share", "4,800 raw tokens", "repeat 1.6"):
        assert part in str(caught.value)
    repeated = draw(lengths, 2000, long={"at_least": 100, "share": 0.8}, repeat=1.6)
    assert long_share(lengths[repeated.rows], repeated.taken, 100) == 0.8
