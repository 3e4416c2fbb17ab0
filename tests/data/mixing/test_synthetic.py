"""Written documents stand on real text, count on after the corpus, and are the same for any budget; training
facts and evaluation facts share neither keys nor values."""

import re
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from world.small_corpus import SmallCorpus, SmallEncoder, SmallWriter, chosen_of, data_spec

from ropewalk.data import DataError, Encoder, Facts, FactsSource, load_encoder, plant
from ropewalk.data.mixing.synthetic import FactWriter, facts, half, state, text_of

CORPUS = SmallCorpus({"a": [30, 40, 50], "b": [7] * 9, "empty": []})
FACT = re.compile(r"# The value of (\w+) is (\d+)\.\n")


@pytest.fixture(
    scope="module",
    params=[{}, {"opens": "text:<doc>", "closes": "text:<s> "}, {"opens": "bos", "closes": ""}],
    ids=["eos", "texts", "bos"],
)
def encoder(request: pytest.FixtureRequest, tokenizer: Path) -> Encoder:
    return load_encoder(tokenizer, **request.param)


def read(encoder: Encoder, tokens: np.ndarray) -> str:
    """Decode a document between what opens and what closes it, which stand there."""
    first, last = len(encoder.opens), len(tokens) - len(encoder.closes)
    assert tokens[:first].tolist() == encoder.opens.tolist()
    assert tokens[last:].tolist() == encoder.closes.tolist()
    return encoder.decode(tokens[first:last])


@pytest.fixture(scope="module")
def haystack(encoder: Encoder, text: Path) -> np.ndarray:
    return np.concatenate(encoder.encode([path.read_text() for path in sorted(text.iterdir())]))


@given(seed=st.integers(0, 10**6), split=st.sampled_from(["train", "heldout"]))
def test_key_and_value_lie_in_the_asked_half(seed: int, split):
    needle = Facts(split=split).needle(np.random.default_rng(seed))
    assert half(needle.key) == half(needle.value) == split
    assert needle.statement == f"{needle.question}{needle.answer}.\n"
    assert needle.answer == f" {needle.value}"
    assert re.fullmatch(r"[a-z]{4}", needle.key)
    assert re.fullmatch(r"\d{5}", needle.value)


def test_the_halves_are_of_like_size():
    words = [str(value) for value in range(10_000, 20_000)]
    assert 0.45 < np.mean([half(word) == "train" for word in words]) < 0.55


@settings(max_examples=15)
@given(seed=st.integers(0, 10**6), length=st.integers(100, 400))
def test_documents_are_exact_and_ask_what_they_state(
    encoder: Encoder, haystack: np.ndarray, seed: int, length: int
):
    writer = FactWriter(encoder, haystack, most=4, where="s")
    (tokens,) = writer.write([(np.random.default_rng(seed), length)])
    assert len(tokens) == length
    found = FACT.findall(read(encoder, tokens))
    stated, asked = found[: len(found) // 2], found[len(found) // 2 :]
    assert 1 <= len(stated) <= 4
    assert sorted(stated) == sorted(asked)
    assert len({key for key, _ in stated}) == len(stated)
    assert all(half(key) == half(value) == "train" for key, value in found)


def test_a_statement_is_a_line_of_its_own(encoder: Encoder, haystack: np.ndarray):
    writer = FactWriter(encoder, haystack, most=4, where="s")
    for seed in range(50):
        (tokens,) = writer.write([(np.random.default_rng(seed), 300)])
        lines = read(encoder, tokens).split("\n")
        assert all(line.startswith("# The value") for line in lines if "# The value" in line)


def test_depths_are_even(encoder: Encoder, haystack: np.ndarray):
    writer = FactWriter(encoder, haystack, most=1, where="s")
    places = []
    for tokens in writer.write([(np.random.default_rng(seed), 1000) for seed in range(400)]):
        content = read(encoder, tokens)
        places.append(content.index("# The value") / len(content))
    assert np.histogram(places, bins=4, range=(0, 1))[0].min() > 70


def test_lengths_are_drawn_between_the_bounds(encoder: Encoder, haystack: np.ndarray):
    source = FactsSource(kind="facts", text="code", weight=1.0, facts=2, min_length=80, length=320)
    written = list(facts(source, haystack, encoder, name="f", budget=20_000, length=999, seed=0))
    lengths = np.array([len(tokens) for tokens in written])
    assert ((lengths[:-1] >= 80) & (lengths[:-1] <= 320)).all()
    assert 20_000 - lengths.sum() < 80
    assert (lengths < 160).mean() == pytest.approx(
        0.5, abs=0.15
    )  # log-uniform: half lie below the middle octave


def test_a_larger_budget_keeps_the_documents(encoder: Encoder, haystack: np.ndarray):
    source = FactsSource(kind="facts", text="code", weight=1.0, length=100)
    small, large = (
        list(facts(source, haystack, encoder, name="f", budget=budget, length=100, seed=0))
        for budget in (1000, 3000)
    )
    assert [t.tolist() for t in small] == [t.tolist() for t in large[: len(small)]]


@given(places=st.lists(st.integers(0, 20), max_size=5))
def test_planting_only_inserts(places: list[int]):
    hay = np.arange(20, dtype=np.uint32)
    planted = plant(hay, places, [np.array([100 + i, 200 + i], np.uint32) for i in range(len(places))])
    assert planted[planted < 100].tolist() == hay.tolist()
    for number, place in enumerate(places):
        at = planted.tolist().index(100 + number)
        assert planted[at + 1] == 200 + number
        assert (planted[:at] < 100).sum() == place


def test_the_frame_is_fixed():
    """The trained base model knows these words; changing them changes what its needles measure."""
    assert state("bako", "12345").statement == "# The value of bako is 12345.\n"


class Framed(SmallEncoder):
    opens = np.array([8, 8], np.uint32)
    closes = np.array([9, 9, 9], np.uint32)


@pytest.mark.parametrize("encoder", [SmallEncoder(), Framed()])
def test_text_is_without_what_opens_and_closes_documents(encoder: SmallEncoder):
    rows = CORPUS.of_source("a")
    text = text_of(cast(Any, CORPUS), rows, cast(Any, encoder), seed=0)
    ends = len(encoder.opens), len(encoder.closes)
    wanted = [CORPUS.tokens(int(row))[ends[0] : len(CORPUS.tokens(int(row))) - ends[1]] for row in rows]
    assert sorted(text) == sorted(np.concatenate(wanted))
    assert text.tolist() != np.concatenate(wanted).tolist()


@pytest.mark.parametrize("mode", ["per-source", "global"])
def test_made_rows_count_on_after_the_corpus(mode: str):
    repeats = {"kind": "repeats", "text": "b", "weight": 0.5}
    drawn = {"a": {"weight": 0.5}, "b": {"weight": 0}} if mode == "per-source" else {"a": {}, "b": {}}
    writer = SmallWriter()
    spec = data_spec({"r": repeats, **drawn}, tokens=101, mode=mode)
    chosen = chosen_of(spec, CORPUS, length=20, writer=writer)
    made = chosen["r"]
    assert list(chosen) == ["r", "a", "b"]
    assert made.items.row.tolist() == [len(CORPUS) + n for n in range(3)]
    assert made.lengths.tolist() == [len(row) for row in writer.rows]
    assert made.requested == {"share": 0.5, "tokens": 51}
    assert sum(own.achieved["tokens"] for own in chosen.values()) == 101
    assert all(set(row) <= set(range(120, 183)) for row in writer.rows)  # the tokens of b


def test_a_rest_too_short_is_counted():
    repeats = {"kind": "repeats", "text": "b", "weight": 1}
    spec = data_spec({"b": {"weight": 0}, "r": repeats}, tokens=41)
    own = chosen_of(spec, CORPUS, length=20)["r"]
    assert own.lengths.tolist() == [20, 20]
    assert own.dropped == {"residual": {"documents": 0, "tokens": 1}}


def test_a_source_of_no_text_is_said_with_the_rest():
    sources = {
        "empty": {"weight": 0},
        "a": {"weight": 0.5},
        "r": {"kind": "repeats", "text": "empty", "weight": 0.5},
    }
    with pytest.raises(DataError) as caught:
        chosen_of(data_spec(sources, tokens=1000), CORPUS)
    assert "sources.a:" in str(caught.value)
    assert "sources.r.text: must have training documents, got none; check empty" in str(caught.value)


def test_the_corpus_is_left_alone(tmp_path: Path):
    writer = SmallWriter()
    chosen_of(data_spec({"a": {"weight": 1}}, tokens=100), CORPUS, writer=writer, folder=tmp_path)
    assert not writer.rows
    assert not list(tmp_path.iterdir())
