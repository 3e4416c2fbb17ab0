"""Budgets are met to the token, long shares exactly, and a draw neither depends on order nor shrinks."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from world.small_corpus import keys_of

from ropewalk.data import DataError, LongShare
from ropewalk.data.mixing.mixture import Drawn, budgets, hashed, long_share, select

LENGTHS = st.lists(st.integers(1, 90), min_size=1, max_size=40).map(np.array)


def draw(
    lengths: np.ndarray,
    budget: int,
    *,
    seed: int = 0,
    long: dict[str, Any] | None = None,
    repeat: float = 1.0,
) -> Drawn:
    keys = keys_of([f"d{row}" for row in range(len(lengths))])
    share = LongShare.model_validate(long) if long else None
    return select(lengths, keys, budget=budget, long=share, repeat=repeat, seed=seed, where="data.sources.s")


@given(weights=st.lists(st.integers(0, 9), min_size=1).filter(any), tokens=st.integers(0, 10**13))
def test_budgets_sum_to_the_total(weights: list[int], tokens: int):
    shares = np.array(weights) / sum(weights)
    made = budgets(shares.tolist(), tokens)
    assert sum(made) == tokens
    assert np.allclose(made, shares * tokens, atol=1.01, rtol=1e-12)


def test_the_hash_is_splitmix64():
    """The generator's published first outputs from 1234567: state + n GOLDEN, finalised."""
    seed = np.array([1234567], np.uint64)
    first = [hashed(seed, n)[0] for n in range(3)]
    assert first == [6457827717110365317, 3203168211198807973, 9817491932198370423]
    pieces = hashed(np.repeat(seed, 3), np.arange(3))
    assert pieces.tolist() == first
    assert hashed(seed, 5, 7)[0] == hashed(hashed(seed, 5), 7)[0]


def test_the_hash_is_even_and_copies_and_seeds_are_unrelated():
    keys = np.arange(20_000, dtype=np.uint64)  # the worst keys there are
    ranks = [hashed(keys, seed, copy).argsort().argsort() for seed, copy in ((0, 0), (0, 1), (1, 0))]
    values = hashed(keys, 0, 0).astype(np.float64) / 2**64
    counts, _ = np.histogram(values, bins=20, range=(0, 1))
    assert counts == pytest.approx(1000, abs=160)  # 5 sigma
    correlations = np.asarray(np.corrcoef([*ranks, keys]))
    assert np.abs(correlations[np.triu_indices(4, 1)]).max() < 5 / np.sqrt(20_000)


@given(lengths=LENGTHS, part=st.floats(0.01, 3.0), seed=st.integers(0, 5))
def test_a_budget_is_met_to_the_token(lengths: np.ndarray, part: float, seed: int):
    budget = max(int(part * lengths.sum()), 1)
    drawn = draw(lengths, budget, seed=seed, repeat=3.0)
    assert drawn.tokens == budget
    assert (drawn.taken >= 1).all()
    assert (drawn.taken < lengths[drawn.index]).sum() <= 1
    assert np.bincount(drawn.index).max() <= 3


@given(lengths=LENGTHS, small=st.floats(0.05, 0.9), long=st.booleans())
def test_a_larger_budget_only_adds(lengths: np.ndarray, small: float, long: bool):
    fields: dict[str, Any] = {"repeat": 4.0, "long": {"at_least": 1, "share": 0.5} if long else None}
    tokens = int(lengths.sum())
    less, more = (draw(lengths, max(int(share * tokens), 1), **fields) for share in (small, 1.0))
    held = {(row, copy): taken for row, copy, taken in zip(more.index, more.copy, more.taken, strict=True)}
    assert all(
        held[row, copy] >= taken for row, copy, taken in zip(less.index, less.copy, less.taken, strict=True)
    )


@given(order=st.permutations(range(12)), share=st.sampled_from([None, 0.8]))
def test_the_draw_does_not_depend_on_the_order_of_documents(order: list[int], share: float | None):
    lengths, ids = np.arange(3, 15), [f"d{row}" for row in range(12)]
    long = LongShare(at_least=9, share=share) if share else None
    fields: dict[str, Any] = {"budget": 40, "seed": 1, "where": "s", "long": long}
    straight = select(lengths, keys_of(ids), **fields)
    mixed = select(lengths[order], keys_of([ids[i] for i in order]), **fields)
    assert [ids[i] for i in straight.index] == [ids[order[i]] for i in mixed.index]
    assert straight.taken.tolist() == mixed.taken.tolist()


@pytest.mark.parametrize(("share", "budget"), [(0.7, 1000), (0.9, 1100), (0.5, 1999), (1.0, 1000)])
def test_the_long_share_is_exact(share: float, budget: int):
    lengths = np.array([100] * 10 + [10] * 200)  # a third of the tokens in long documents
    drawn = draw(lengths, budget, long={"at_least": 100, "share": share})
    assert drawn.tokens == budget
    assert long_share(lengths[drawn.index], drawn.taken, 100) == pytest.approx(share, abs=0.51 / budget)
    assert np.bincount(drawn.index).max() == 1


@given(
    long=st.integers(1, 50), short=st.integers(1, 400), share=st.floats(0.05, 0.99), seed=st.integers(0, 9)
)
def test_short_documents_are_kept_at_fu_s_rate(long: int, short: int, share: float, seed: int):
    """Where all long ones are kept, r = p (1 - q) / (q (1 - p)) of the short tokens are."""
    lengths = np.array([64] * long + [8] * short)
    natural = 64 * long / int(lengths.sum())
    share = max(share, natural)
    rate = natural * (1 - share) / (share * (1 - natural))
    for part in (1.0, 0.5):
        drawn = draw(
            lengths, max(int(part * 64 * long / share), 1), seed=seed, long={"at_least": 64, "share": share}
        )
        is_long = lengths[drawn.index] == 64
        kept = [drawn.taken[is_long].sum() / (64 * long), drawn.taken[~is_long].sum() / (8 * short)]
        assert kept[0] == pytest.approx(part, abs=1.6 / (64 * long))
        assert kept[1] == pytest.approx(part * rate, abs=1.6 / (8 * short))


def test_the_rates_that_the_literature_states():
    """From p = .3 to q = .7 keeps .184 of the short ones; .1, as published, gives .811."""
    lengths = np.array([3000] * 100 + [70] * 10_000)
    drawn = draw(lengths, 300_000 * 10 // 7, long={"at_least": 3000, "share": 0.7})
    assert (lengths[drawn.index] == 70).sum() / 10_000 == pytest.approx(0.184, abs=1e-3)
    drawn = draw(lengths, 370_000, long={"at_least": 3000, "share": 300 / 370})
    assert (lengths[drawn.index] == 70).sum() / 10_000 == pytest.approx(0.1, abs=1e-3)


@given(lengths=LENGTHS, at_least=st.integers(2, 60), share=st.floats(0.05, 1.0), repeat=st.floats(1.01, 4))
def test_repeat_long_repeats_only_long_ones_up_to_the_cap(
    lengths: np.ndarray, at_least: int, share: float, repeat: float
):
    long = {"at_least": at_least, "share": share, "by": "repeat-long"}
    is_long = lengths >= at_least
    tokens, budget = int(lengths[is_long].sum()), int(lengths.sum())
    wanted = round(max(share, tokens / budget) * budget)
    possible = wanted <= repeat * tokens and budget - wanted <= budget - tokens
    if not possible:
        with pytest.raises(DataError):
            draw(lengths, budget, long=long, repeat=repeat)
        return
    drawn = draw(lengths, budget, long=long, repeat=repeat)
    assert drawn.tokens == budget
    assert drawn.taken[is_long[drawn.index]].sum() == wanted
    assert not drawn.copy[~is_long[drawn.index]].any()
    assert drawn.copy.max() <= np.ceil(repeat) - 1


def test_budgets_sum_to_the_total_whatever_the_weights_are_off_by():
    """A recipe's weights may be a millionth off; of ten billion tokens that is ten thousand."""
    for off in (-1e-6, 1e-6):
        made = budgets([0.2, 0.3, 0.5 + off], 10**10)
        assert sum(made) == 10**10
        assert made[0] == pytest.approx(2e9, rel=2e-6)


def test_a_share_below_the_natural_one_changes_nothing():
    lengths = np.array([100] * 10 + [10] * 200)
    drawn = draw(lengths, 900, long={"at_least": 100, "share": 0.1})
    assert long_share(lengths[drawn.index], drawn.taken, 100) == pytest.approx(1 / 3, abs=1e-3)


def test_an_infeasible_share_says_what_is_reachable():
    lengths = np.array([100] * 10 + [10] * 200)
    with pytest.raises(DataError, match=r"share 0\.500 at this budget") as caught:
        draw(lengths, 2000, long={"at_least": 100, "share": 0.8})
    for part in ("1,250 tokens at this share", "4,800 raw tokens", "repeat 1.6"):
        assert part in str(caught.value)
    at_share = draw(lengths, 1250, long={"at_least": 100, "share": 0.8})
    assert long_share(lengths[at_share.index], at_share.taken, 100) == 0.8
    at_budget = draw(lengths, 2000, long={"at_least": 100, "share": 0.5})
    assert long_share(lengths[at_budget.index], at_budget.taken, 100) == 0.5
    more = np.array([100] * 16 + [10] * 320)  # 4,800 raw tokens of such text
    assert more.sum() == 4800
    assert draw(more, 2000, long={"at_least": 100, "share": 0.8}).copy.max() == 0
    for by in ("drop-short", "repeat-long"):
        repeated = draw(lengths, 2000, long={"at_least": 100, "share": 0.8, "by": by}, repeat=1.6)
        assert long_share(lengths[repeated.index], repeated.taken, 100) == 0.8


@pytest.mark.parametrize("count", [10**6, pytest.param(10**7, marks=pytest.mark.slow)])
def test_millions_of_documents_are_drawn_to_the_token(count: int):
    lengths = np.arange(count) % 1000 + 1
    drawn = select(
        lengths,
        np.arange(count, dtype=np.uint64),
        budget=100 * count,
        long=LongShare(at_least=800, share=0.7),
        seed=0,
        where="s",
    )
    assert drawn.tokens == 100 * count
