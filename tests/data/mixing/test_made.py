"""Made documents stand on real text, count on after the corpus, and are the same for any budget."""

from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from world.small_corpus import SmallCorpus, SmallEncoder, SmallWriter, chosen_of, data_spec

from ropewalk.data import DataError
from ropewalk.data.mixing.made import text_of

CORPUS = SmallCorpus({"a": [30, 40, 50], "b": [7] * 9, "empty": []})


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
