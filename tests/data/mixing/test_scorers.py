"""Scores of documents: what gzip_ratio measures, which band is kept, and what a killed run had found."""

import inspect
import sys
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from world.small_corpus import SmallCorpus, SmallEncoder, chosen_of, data_spec

from ropewalk.data import DataError
from ropewalk.data.mixing.scorer import Scorer, Scores, scorer
from ropewalk.data.mixing.scorers.gzip_ratio import GzipRatio, _windows
from ropewalk.data.prepare import mixing

encoder = SmallEncoder()


def score(text: str, **knobs: Any) -> float:
    return GzipRatio(**knobs)(encoder.encode([text])[0], encoder.decode)


def prose(rng: np.random.Generator, words: int) -> str:
    """Write words of a fixed vocabulary, as compressible at any length."""
    return " ".join(f"word{n}" for n in rng.integers(0, 2000, words))


def test_one_window_is_zlib_s_own_ratio():
    text = prose(np.random.default_rng(0), 500)
    assert len(text) < 8192
    assert score(text, level=9) == len(zlib.compress(text.encode(), 9)) / len(text)


def test_the_ends_of_the_scale():
    noise = bytes(np.random.default_rng(0).integers(32, 127, 50_000, dtype=np.uint8).tolist()).decode()
    assert score("abcd" * 20_000) < 0.01 < 0.8 < score(noise) < 1
    assert score("") == 1.0


def test_the_mean_ratio_does_not_fall_with_the_length_where_the_plain_one_does():
    rng = np.random.default_rng(0)
    short, long = ([prose(rng, words) for _ in range(count)] for words, count in ((1200, 128), (20_000, 8)))
    assert min(map(len, short)) > 8192
    plain, ours = (
        [np.mean([ratio(text) for text in texts]) for texts in (short, long)]
        for ratio in (lambda text: len(zlib.compress(text.encode())) / len(text), score)
    )
    assert plain[1] < 0.97 * plain[0]
    assert ours[1] == pytest.approx(ours[0], rel=0.005)


@given(blocks=st.lists(st.binary(max_size=20)), size=st.integers(1, 12))
def test_windows_are_of_one_size_and_cover_the_text(blocks: list[bytes], size: int):
    text = b"".join(blocks)
    windows = list(_windows(blocks, size))
    count = -(-len(text) // size)
    assert len(windows) == count
    if len(text) < size:
        assert windows == [text][:count]
        return
    starts = [*range(0, size * (len(text) // size), size), len(text) - size][:count]
    assert windows == [text[start : start + size] for start in starts]


@pytest.fixture
def first_token() -> Iterator[list[int]]:
    """Add a scorer as one file would: a document's first token; give the documents it was asked for."""
    asked: list[int] = []

    @scorer("first_token")
    @dataclass(frozen=True, kw_only=True)
    class FirstToken(Scorer):
        times: float = 1.0
        breaks_at: int = -1

        def __call__(self, tokens: np.ndarray, text: Callable[[np.ndarray], str]) -> float:
            if tokens[0] == self.breaks_at:
                raise KeyboardInterrupt
            assert len(text(tokens)) == len(tokens)
            asked.append(int(tokens[0]))
            return self.times * float(tokens[0])

    yield asked
    del scorer.known["first_token"]


CORPUS = SmallCorpus({"a": [10] * 20, "b": [10] * 5})


@pytest.mark.parametrize(
    ("section", "kept"),
    [
        ({"keep": [50, 120]}, range(5, 13)),
        ({"keep": [0, 0.5], "times": 0.01}, range(6)),
        ({"keep": [0.2, 0.8], "by": "quantile"}, range(4, 16)),
        ({"keep": [0.9, 1], "by": "quantile", "times": -1}, range(2)),
    ],
)
def test_a_band_is_kept(first_token: list[int], tmp_path: Path, section: dict[str, Any], kept: range):
    source = {"weight": 1, "score": {"kind": "first_token"} | section}
    own = chosen_of(data_spec({"a": source}, tokens=10 * len(kept)), CORPUS, folder=tmp_path)["a"]
    assert sorted(own.items.row) == list(kept)
    out = 20 - len(kept)
    assert own.dropped == {"score": {"documents": out, "tokens": 10 * out}}


def test_quantiles_are_those_of_documents_of_the_right_length(first_token: list[int], tmp_path: Path):
    corpus = SmallCorpus({"a": [5] * 10 + [10] * 10})
    score = {"kind": "first_token", "keep": [0, 0.5], "by": "quantile"}
    source = {"weight": 1, "min_tokens": 10, "score": score}
    own = chosen_of(data_spec({"a": source}, tokens=50), corpus, folder=tmp_path)["a"]
    assert sorted(own.items.row) == list(range(10, 15))
    assert own.dropped["score"]["documents"] == 5


def found(folder: Path, corpus: str = "c", source: str = "a", **knobs: Any) -> np.ndarray:
    scores = Scores(folder=folder, corpus=corpus, documents=cast(Any, CORPUS), encoder=cast(Any, encoder))
    return scores.of(source, CORPUS.of_source(source), scorer.make("first_token", knobs))


def test_scores_are_kept_by_corpus_source_and_knobs(first_token: list[int], tmp_path: Path):
    once = found(tmp_path)
    assert once.tolist() == [10.0 * n for n in range(20)]
    assert found(tmp_path).tolist() == once.tolist()
    assert len(first_token) == 20
    assert found(tmp_path, source="b").tolist() == [200.0 + 10 * n for n in range(5)]
    assert found(tmp_path, times=2.0).tolist() == [20.0 * n for n in range(20)]
    found(tmp_path, corpus="d")
    assert len(first_token) == 65
    assert len(list(tmp_path.iterdir())) == 4
    assert all(path.suffix == ".npy" for path in tmp_path.iterdir())


def test_scores_and_plans_of_other_code_are_not_used(
    first_token: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    source = inspect.getsource(sys.modules[__name__])
    score = {"kind": "first_token", "keep": [0, 0.5]}
    spec = data_spec({"a": {"weight": 1, "score": score, "transform": {"kind": "interleave"}}}, tokens=9)
    monkeypatch.setattr(inspect, "getsource", lambda _: source)
    before = [found(tmp_path).tolist(), mixing(spec)]
    monkeypatch.setattr(inspect, "getsource", lambda _: f"# a comment\n{source}\n\n")
    assert [found(tmp_path).tolist(), mixing(spec)] == before
    assert len(first_token) == 20
    monkeypatch.setattr(inspect, "getsource", lambda _: f"{source}\nx = 1\n")
    found(tmp_path)
    assert len(first_token) == 40
    assert {**mixing(spec), "sources": 0} == {**before[1], "sources": 0}
    code, then = mixing(spec)["sources"]["a"]["code"], before[1]["sources"]["a"]["code"]
    assert code.keys() == {"score", "transform"}
    assert all(code[key] != then[key] for key in code)


@pytest.mark.parametrize("torn", [0, 3])
def test_a_killed_run_goes_on(
    first_token: list[int], tmp_path: Path, torn: int, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("ropewalk.data.mixing.scorer.FLUSHED", 4)
    whole = found(tmp_path / "whole")
    first_token.clear()
    with pytest.raises(KeyboardInterrupt):
        found(tmp_path, breaks_at=100)
    (partial,) = tmp_path.glob("*.partial")
    assert partial.stat().st_size == 8 * 8
    partial.write_bytes(partial.read_bytes() + b"\0" * torn)
    monkeypatch.setattr(scorer.known["first_token"], "__call__", lambda self, tokens, *_: float(tokens[0]))
    assert found(tmp_path, breaks_at=100).tolist() == whole.tolist()
    assert first_token == [10 * n for n in range(10)]
    assert not list(tmp_path.glob("*.partial"))


def test_a_score_must_be_a_number(first_token: list[int], tmp_path: Path):
    with pytest.raises(DataError, match=r"sources\.a\.score: first_token .*nan.* d0"):
        found(tmp_path, times=float("nan"))
