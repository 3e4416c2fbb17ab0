"""What every source gives is what was asked, to the token; nothing is lost without being counted."""

import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from world.small_corpus import SmallCorpus, chosen_of, data_spec

from ropewalk.data import DataError
from ropewalk.data.mixing.choose import Chosen

LENGTHS = st.lists(st.integers(1, 90), min_size=1, max_size=30)
SHARES = st.lists(st.integers(1, 9), min_size=3, max_size=3)


def tokens_of(corpus: SmallCorpus, own: Chosen) -> np.ndarray:
    """Give the corpus' token numbers that a source's items hold."""
    spans = zip(own.items.row, own.items.start, own.items.length, strict=True)
    parts = [corpus.tokens(int(row), int(start), int(start + length)) for row, start, length in spans]
    return np.concatenate([np.zeros(0, np.uint32), *parts])


@given(
    lengths=st.lists(LENGTHS, min_size=3, max_size=3),
    weights=SHARES,
    part=st.floats(0.01, 1),
    long=st.sampled_from([None, 0.3, 0.8]),
    seed=st.integers(0, 3),
)
def test_the_mix_is_the_asked_one_or_is_refused(
    lengths: list[list[int]], weights: list[int], part: float, long: float | None, seed: int
):
    corpus = SmallCorpus(dict(zip("abc", lengths, strict=True)))
    total = max(int(part * corpus.lengths().sum()), 1)
    share = {"long": {"at_least": 40, "share": long}} if long else {}
    sources = {name: {"weight": w / sum(weights), **share} for name, w in zip("abc", weights, strict=True)}
    spec = data_spec(sources, tokens=total, seed=seed)
    possible = feasible(lengths, weights, total, long)
    if not all(possible):
        with pytest.raises(DataError) as caught:
            chosen_of(spec, corpus)
        assert [f"data.sources.{name}" not in str(caught.value) for name in "abc"] == possible
        most = re.search(r"data\.tokens: .*got.* is (\d+)$", str(caught.value))
        assert (int(most[1]) if most else 0) < total
        if most:  # all of the mix can be met at that budget, and not at one token more
            chosen_of(data_spec(sources, tokens=int(most[1]), seed=seed), corpus)
            with pytest.raises(DataError):
                chosen_of(data_spec(sources, tokens=int(most[1]) + 1, seed=seed), corpus)
        return
    chosen = chosen_of(spec, corpus)
    assert sum(own.lengths.sum() for own in chosen.values()) == total
    for (name, own), weight, all_lengths in zip(chosen.items(), weights, lengths, strict=True):
        tokens = own.requested["tokens"]
        assert own.achieved["tokens"] == own.lengths.sum() == own.items.length.sum() == tokens
        assert tokens == pytest.approx(total * weight / sum(weights), abs=1)
        held = tokens_of(corpus, own)
        assert len(np.unique(held)) == len(held)
        assert set(held) <= {n for row in corpus.of_source(name) for n in corpus.tokens(int(row))}
        assert len(held) + sum(left["tokens"] for left in own.dropped.values()) == sum(all_lengths)
        if long and tokens:
            natural = sum(n for n in all_lengths if n >= 40) / sum(all_lengths)
            assert own.achieved["long_share"] == pytest.approx(max(long, natural), abs=0.51 / tokens)
            assert own.requested["long_share"] == long


def feasible(lengths: list[list[int]], weights: list[int], total: int, long: float | None) -> list[bool]:
    """Say of each source, the slow way, whether it has the documents."""
    exact = [total * w / sum(weights) for w in weights]
    rest = total - sum(map(int, exact))
    first = sorted(range(3), key=lambda i: (int(exact[i]) - exact[i], i))[:rest]
    answers = []
    for i, own in enumerate(lengths):
        budget = int(exact[i]) + (i in first)
        in_long = sum(n for n in own if n >= 40)
        wanted = round(max(long or 0, in_long / sum(own)) * budget)
        fits = budget <= sum(own)
        answers.append(fits and (not long or (wanted <= in_long and budget - wanted <= sum(own) - in_long)))
    return answers


@given(
    lengths=LENGTHS.filter(lambda own: max(own) >= 40), at_least=st.integers(1, 60), share=st.floats(0.1, 1)
)
def test_pooled_sources_share_one_long_share(lengths: list[int], at_least: int, share: float):
    corpus = SmallCorpus({"a": lengths, "b": [5] * 20, "c": [80] * 5})
    everything = corpus.lengths()
    total = int(everything[everything >= at_least].sum())
    spec = data_spec(
        {"a": {}, "b": {}, "c": {}}, mode="global", long={"at_least": at_least, "share": share}, tokens=total
    )
    natural = total / everything.sum()
    if total - round(max(share, natural) * total) > everything.sum() - total:
        with pytest.raises(DataError, match=r"data\.long"):
            chosen_of(spec, corpus)
        return
    chosen = chosen_of(spec, corpus)
    assert sum(own.achieved["tokens"] for own in chosen.values()) == total
    long = sum(own.achieved["long_share"] * own.achieved["tokens"] for own in chosen.values())
    assert long == pytest.approx(max(share, natural) * total, abs=0.51)
    assert sum(own.achieved["share"] for own in chosen.values()) == pytest.approx(1)
    for name, own in chosen.items():
        assert own.requested == {"share": None, "tokens": None, "long_share": None}
        assert set(own.items.row) <= set(corpus.of_source(name))
        assert own.achieved["tokens"] + sum(left["tokens"] for left in own.dropped.values()) == (
            everything[corpus.of_source(name)].sum()
        )


def test_shares_of_pooled_sources_are_natural_where_nothing_is_asked():
    corpus = SmallCorpus({"a": [10] * 3000, "b": [10] * 1000})
    chosen = chosen_of(data_spec({"a": {}, "b": {}}, mode="global", tokens=20_000), corpus)
    assert chosen["a"].achieved["share"] == pytest.approx(0.75, abs=0.02)


@given(lengths=LENGTHS, times=st.floats(0.1, 3), seed=st.integers(0, 3))
def test_what_no_copy_of_a_document_has_is_left_out(lengths: list[int], times: float, seed: int):
    """However often documents are drawn: what is trimmed off one copy may stand in another."""
    corpus = SmallCorpus({"a": lengths})
    total = max(int(times * sum(lengths)), 1)
    spec = data_spec({"a": {"weight": 1, "repeat": 3}}, tokens=total, seed=seed)
    own = chosen_of(spec, corpus)["a"]
    held = np.unique(tokens_of(corpus, own))
    assert len(held) == min(total, sum(lengths))
    assert sum(left["tokens"] for left in own.dropped.values()) == sum(lengths) - len(held)


def test_the_largest_pooled_budget_is_said():
    corpus = SmallCorpus({"a": [10] * 30, "b": [100] * 4})
    pooled = {"mode": "global", "long": {"at_least": 100, "share": 0.8}}
    sources = {"a": {}, "b": {}}
    with pytest.raises(DataError, match=r"data\.tokens: .* got 600 .* is 500$"):
        chosen_of(data_spec(sources, tokens=600, **pooled), corpus)
    assert chosen_of(data_spec(sources, tokens=500, **pooled), corpus)["b"].achieved["tokens"] == 400


@given(lengths=LENGTHS, piece=st.integers(1, 50), part=st.floats(0.05, 1), seed=st.integers(0, 3))
def test_documents_are_cut_to_one_length(lengths: list[int], piece: int, part: float, seed: int):
    corpus = SmallCorpus({"a": lengths})
    whole = sum(n // piece * piece for n in lengths)
    if not whole:
        return
    total = max(int(part * whole), 1)
    spec = data_spec({"a": {"weight": 1, "document_length": piece}}, tokens=total, seed=seed)
    own = chosen_of(spec, corpus, length=50)["a"]
    assert sorted(own.lengths, reverse=True)[: total // piece] == [piece] * (total // piece)
    assert (own.items.start % piece == 0).all()
    held = tokens_of(corpus, own)
    assert len(np.unique(held)) == len(held) == total
    rest = [n % piece for n in lengths if n % piece]
    assert own.dropped.get("remainder", {"documents": 0, "tokens": 0}) == {
        "documents": len(rest),
        "tokens": sum(rest),
    }
    assert own.achieved["short_pieces"] == int(total % piece > 0)
    trimmed = own.dropped.get("trimmed", {"documents": 0, "tokens": 0})
    assert trimmed == {"documents": int(total % piece > 0), "tokens": -total % piece}


def test_pieces_are_drawn_by_themselves():
    """A document's pieces are no run in the order of the draw."""
    corpus = SmallCorpus({"a": [1000] * 4})
    spec = data_spec({"a": {"weight": 1, "document_length": 10}}, tokens=2000)
    own = chosen_of(spec, corpus)["a"]
    assert np.bincount(own.items.row) == pytest.approx(50, abs=20)
    assert 0 < (np.diff(own.items.row) == 0).mean() < 0.5


def test_pools_of_one_source_part_its_documents():
    corpus = SmallCorpus({"books": [700, 512, 300, 64, 63, 20], "short": [10] * 40})
    sources = {
        "books": {"weight": 0.4, "document_length": 512},
        "medium": {"kind": "pool", "of": "books", "weight": 0.3, "document_length": 64, "max_tokens": 511},
        "short": {"weight": 0.3},
    }
    chosen = chosen_of(data_spec(sources, tokens=1000), corpus, length=512)
    assert set(chosen["books"].items.row) <= {0, 1}
    assert set(chosen["medium"].items.row) <= {2, 3}
    assert chosen["medium"].lengths.tolist() == [64] * 4 + [44]
    assert chosen["medium"].dropped["max_tokens"] == {"documents": 2, "tokens": 1212}
    assert chosen["medium"].dropped["remainder"] == {"documents": 3, "tokens": 300 % 64 + 63 + 20}


def test_a_source_without_weight_only_lends_its_documents():
    corpus = SmallCorpus({"a": [30] * 10})
    sources = {"a": {"weight": 0}, "b": {"kind": "pool", "of": "a", "weight": 1, "min_tokens": 20}}
    chosen = chosen_of(data_spec(sources, tokens=100), corpus)
    assert chosen["a"].achieved == {"share": 0, "tokens": 0, "documents": 0}
    assert chosen["a"].dropped == {}
    assert chosen["b"].achieved["share"] == 1


def test_lengths_that_are_left_out_are_counted():
    corpus = SmallCorpus({"a": [5, 10, 20, 40]})
    spec = data_spec({"a": {"weight": 1, "min_tokens": 10, "max_tokens": 20}}, tokens=30)
    own = chosen_of(spec, corpus)["a"]
    assert sorted(own.lengths) == [10, 20]
    assert own.dropped == {
        "min_tokens": {"documents": 1, "tokens": 5},
        "max_tokens": {"documents": 1, "tokens": 40},
    }


@given(order=st.permutations(range(9)))
def test_the_order_on_disk_does_not_matter(order: list[int]):
    lengths = [7 * i + 10 for i in range(9)]
    sources: dict[str, dict[str, Any]] = {"a": {"weight": 1, "document_length": 10}}
    one, other = SmallCorpus({"a": lengths}), SmallCorpus({"a": [lengths[i] for i in order]}, ids=order)
    spec = data_spec(sources, tokens=105)
    straight, mixed = chosen_of(spec, one)["a"], chosen_of(spec, other)["a"]
    assert straight.items.row.tolist() == [order[row] for row in mixed.items.row]
    assert straight.items.start.tolist() == mixed.items.start.tolist()


def test_all_that_cannot_be_is_said_at_once():
    corpus = SmallCorpus({"a": [10], "b": [10] * 9, "c": [10]})
    sources = {
        "a": {"weight": 0.5},
        "b": {"weight": 0.3, "long": {"at_least": 11, "share": 0.5}},
        "c": {"weight": 0.2, "document_length": 2000},
    }
    with pytest.raises(DataError) as caught:
        chosen_of(data_spec(sources, tokens=40), corpus)
    assert str(caught.value).count("\n") == 3
    for said in ("sources.a:", "sources.b.long:", "sources.c.document_length:"):
        assert said in str(caught.value)
