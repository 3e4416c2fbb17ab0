"""A preview reads a bounded part of any source and tells what all of it is."""

import gzip
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset
from world.stores import array, write_datatrove, write_mds, write_megatron

from ropewalk.data import DataError, DataSpec, load_encoder, preview, sampled
from ropewalk.data.encoding.encoder import Encoder
from ropewalk.data.sampling import stored_before
from ropewalk.data.sources.source import Input, Span

Told = dict[str, Any]
Small = Callable[..., None]
WORDS = ("argument", "value", "return", "self", "for", "import", "def", "class", "none", "if")


@pytest.fixture(scope="session")
def encoder(tokenizer: Path) -> Encoder:
    return load_encoder(tokenizer, engine="tokenizers")


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> Small:
    """Read so little of all sources together, and of one document."""

    def patch(sample: int, *, longest: int = 1 << 40) -> None:
        monkeypatch.setattr("ropewalk.data.sampling.SAMPLE", sample)
        monkeypatch.setattr("ropewalk.data.sampling.LEAST", 0)
        monkeypatch.setattr("ropewalk.data.sampling.LONGEST", longest)

    return patch


def texts(count: int, *, seed: int = 0, scale: float = 60) -> list[str]:
    """Write documents of about `scale` words, few of them long."""
    draw = random.Random(seed)
    return [" ".join(draw.choices(WORDS, k=1 + int(draw.expovariate(1 / scale)))) for _ in range(count)]


def write_lines(path: Path, documents: list[str]) -> Path:
    content = "".join(json.dumps({"text": text, "more": [1, 2, 3] * 9}) + "\n" for text in documents).encode()
    if path.suffix == ".zst":
        content = pa.Codec("zstd").compress(content).to_pybytes()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def spec_of(*, tokens: int = 2000, **fields: Any) -> DataSpec:
    sources = {name: own for name, own in fields.items() if isinstance(own, dict)}
    rest = {key: value for key, value in fields.items() if key not in sources}
    return DataSpec.model_validate({"tokens": tokens, "holdout": 0, "sources": sources, **rest})


def told_of(spec: DataSpec, encoder: Encoder, length: int = 64) -> Told:
    with sampled(spec, encoder) as sample:
        return preview(spec, sample, length=length, reach=length, workers=2)


KINDS = [
    "jsonl", "jsonl.gz", "jsonl.zst", "files", "repositories", "parquet-50", "parquet-3000", "dataset",
    "megatron", "datatrove", "mds-100", "mds-3000",
]  # fmt: skip


def write(kind: str, folder: Path, documents: list[str], encoder: Encoder, tokenizer: Path) -> dict[str, Any]:
    """Write documents as a source of a kind."""
    name, _, number = kind.partition("-")
    path = folder / f"all.{kind}"
    own: dict[str, Any] = {"kind": name, "paths": [str(path)], "weight": 1.0}
    if name in ("files", "repositories"):
        for at, text in enumerate(documents):
            file = path / f"{at // 10:03}" / f"{at}.txt"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        return own | {"kind": "files", "per": "file" if name == "files" else "repository"}
    if name.startswith("jsonl"):
        write_lines(path, documents)
        return own | {"kind": "jsonl"}
    if name == "parquet":
        pq.write_table(pa.table({"text": documents}), path, row_group_size=int(number))
        return own
    if name == "dataset":
        Dataset.from_dict({"text": documents}).save_to_disk(path)
        return own
    own["tokenizer"] = str(tokenizer)
    ids = encoder.encode(documents)
    if name == "megatron":
        write_megatron(path, [[tokens] for tokens in ids], 8, "<u2")
        return own | {"paths": [str(path.with_suffix(".bin"))]}
    if name == "datatrove":
        write_datatrove(folder / "all.ds", ids, "<u2")
        return own | {"paths": [str(folder / "all.ds")]}
    rows = [{"input_ids": array(tokens, typed=False)} for tokens in ids]
    write_mds(path, rows, {"input_ids": "ndarray:uint32"}, per_shard=int(number))
    return own | {"spans": None}


@pytest.mark.parametrize("kind", KINDS)
def test_totals_are_told_from_a_part_of_any_kind(
    kind: str, encoder: Encoder, tokenizer: Path, tmp_path: Path, small: Small
):
    """Some 300 of 3,000 documents are read, whose lengths spread as much as they are long: chance alone is
    6 % of the tokens and of the documents."""
    documents = texts(3000)
    source = write(kind, tmp_path, documents, encoder, tokenizer)
    small(100_000)
    told = told_of(spec_of(s=source), encoder)
    there = told["there"]["s"]
    per = 10 if kind == "repositories" else 1
    newlines = len(documents) - len(documents) // per  # between the files of a repository
    tokens = sum(map(len, encoder.encode(documents))) + len(documents) // per + newlines
    assert 0.04 < there["share"] < 0.4
    assert told["sample_bytes"] < 300_000
    assert there["tokens"] == pytest.approx(tokens, rel=0.2)
    assert there["documents"] == pytest.approx(len(documents) / per, rel=0.2)
    is_text = "tokenizer" not in source
    assert there["text_bytes"] == (pytest.approx(sum(map(len, documents)), rel=0.2) if is_text else 0)


@pytest.mark.parametrize("kind", ["jsonl.gz", "repositories", "parquet-50", "mds-3000"])
def test_what_is_small_is_read_whole(kind: str, encoder: Encoder, tokenizer: Path, tmp_path: Path):
    documents = texts(50)
    told = told_of(spec_of(s=write(kind, tmp_path, documents, encoder, tokenizer)), encoder)
    there = told["there"]["s"]
    assert (there["share"], told["scale"]) == (1, 1)
    assert there["documents"] == (5 if kind == "repositories" else 50)
    assert there["tokens"] == sum(map(len, encoder.encode(documents))) + 50


def test_a_small_source_beside_a_large_one_is_told_as_it_is(encoder: Encoder, tmp_path: Path, small: Small):
    """One source is 300 times the other, and both give half: nearly all of the small one is drawn."""
    big, little = texts(9000), texts(30, seed=1)
    paths = [str(write_lines(tmp_path / f"{n}.jsonl", own)) for n, own in enumerate((big, little))]
    have = sum(map(len, encoder.encode(little))) + len(little)
    spec = spec_of(
        tokens=2 * int(0.9 * have),
        big={"kind": "jsonl", "paths": paths[:1], "weight": 0.5},
        little={"kind": "jsonl", "paths": paths[1:], "weight": 0.5},
    )
    small(40_000)
    told = told_of(spec, encoder)
    assert told["there"]["little"]["share"] == 1
    assert told["there"]["big"]["share"] < 0.05
    assert told["scale"] == 1  # the plan takes little of the large one: its sample is enough
    assert told["sources"]["little"]["achieved"]["tokens"] == int(0.9 * have)
    assert told["tokens"] == spec.tokens
    with pytest.raises(DataError, match=r"^data\.sources\.little: its .* set repeat"):
        told_of(spec.model_copy(update={"tokens": int(2.2 * have)}), encoder)


def test_documents_stand_for_others_where_the_sample_is_small_for_a_plan(
    encoder: Encoder, tmp_path: Path, small: Small
):
    """Nearly all of a corpus is asked; the sample has 1 in 25 of it, the plan is not that much smaller."""
    path = str(write_lines(tmp_path / "a.jsonl", texts(3000)))
    source = {"kind": "jsonl", "paths": [path], "weight": 1.0}
    whole = told_of(spec_of(s=source), encoder)["there"]["s"]
    spec = spec_of(tokens=int(0.8 * whole["tokens"]), s=source)
    exact = told_of(spec, encoder, 256)
    small(50_000)
    told = told_of(spec, encoder, 256)
    assert told["there"]["s"]["share"] < 0.1 < told["scale"] < 0.5 < exact["scale"]
    assert told["packs"] == pytest.approx(exact["packs"], rel=0.02)
    documents = [sum(bucket["documents"] for bucket in one["buckets"]) for one in (told, exact)]
    assert documents[0] == pytest.approx(documents[1], rel=0.2)
    assert told["dropped"]["trimmed"]["documents"] == 1  # one draw has one end, of whatever scale
    left = [one["dropped"]["not_selected"]["tokens"] / whole["tokens"] for one in (told, exact)]
    assert left[0] == pytest.approx(left[1], abs=0.15)


def test_pooled_sources_keep_their_natural_shares(encoder: Encoder, tmp_path: Path, small: Small):
    paths = [write_lines(tmp_path / f"{n}.jsonl", texts(200 * 9**n, seed=n)) for n in (0, 1)]
    sources = {f"s{n}": {"kind": "jsonl", "paths": [str(path)]} for n, path in enumerate(paths)}
    small(100_000)
    told = told_of(spec_of(tokens=10_000, mode="global", **sources), encoder)
    share = told["sources"]["s0"]["achieved"]["share"]
    assert share == pytest.approx(0.1, abs=0.04)
    assert told["sources"]["s0"]["requested"]["tokens"] is None
    small(1 << 30)
    with pytest.raises(DataError, match=r"^data: its 9,999,999 tokens"):
        told_of(spec_of(tokens=9_999_999, mode="global", **sources), encoder)


@pytest.mark.parametrize("ending", ["jsonl", "jsonl.gz", "txt"])
def test_one_endless_document_is_read_for_a_bounded_part(
    encoder: Encoder, tmp_path: Path, small: Small, ending: str
):
    text = " ".join(random.Random(0).choices(WORDS, k=200_000))
    path = tmp_path / f"all.{ending}"
    path.write_text(text) if ending == "txt" else write_lines(path, [text])
    kind = "files" if ending == "txt" else "jsonl"
    small(20_000, longest=60_000)
    told = told_of(spec_of(s={"kind": kind, "paths": [str(path)], "weight": 1.0}), encoder)
    assert told["sample_bytes"] < 1_250_000 < len(text) + 250_000
    assert told["there"]["s"]["tokens"] == pytest.approx(len(encoder.encode([text])[0]), rel=0.1)


def test_what_is_dropped_while_reading_is_told_by_source(encoder: Encoder, tmp_path: Path, small: Small):
    """Every tenth line of one source has no text, every line of the other stands twice."""
    texts_ = texts(4000)
    faulty, twice = tmp_path / "faulty.jsonl", tmp_path / "twice.jsonl"
    rows = ({"no": 1} if n % 10 == 0 else {"text": text} for n, text in enumerate(texts_))
    faulty.write_text("".join(json.dumps(row) + "\n" for row in rows))
    lines = (json.dumps({"text": text, "id": n // 2}) + "\n" for n, text in enumerate(texts_[:60]))
    twice.write_text("".join(lines))
    kind = {"kind": "jsonl", "on_error": "skip", "weight": 0.5}
    sources = {"a": kind | {"paths": [str(faulty)]}, "b": kind | {"paths": [str(twice)], "id": "id"}}
    small(200_000)
    told = told_of(spec_of(**sources), encoder)
    assert told["there"]["a"]["share"] < 0.4 < told["there"]["b"]["share"] == 1
    assert told["dropped"]["missing_field"]["documents"] == pytest.approx(400, rel=0.2)
    assert told["dropped"]["duplicate_id"]["documents"] >= 30


def test_sources_that_give_nothing_are_told(encoder: Encoder, tmp_path: Path):
    """One has weight 0 and feeds another, one has no document that may be drawn, one has none at all."""
    paths = {name: str(write_lines(tmp_path / f"{name}.jsonl", texts(20))) for name in ("a", "b")}
    (tmp_path / "c.jsonl").write_text("")
    read = {name: {"kind": "jsonl", "paths": [path]} for name, path in paths.items()}
    repeats = {"kind": "repeats", "text": "a", "weight": 1.0}
    told = told_of(spec_of(a=read["a"] | {"weight": 0.0}, r=repeats), encoder)
    assert told["sources"]["a"]["achieved"]["tokens"] == 0
    assert told["sources"]["r"]["achieved"]["tokens"] == told["tokens"] == 2000
    empty = {"kind": "jsonl", "paths": [str(tmp_path / "c.jsonl")], "weight": 0.0}
    told = told_of(spec_of(tokens=500, a=read["a"] | {"weight": 1.0}, c=empty), encoder)
    assert told["there"]["c"]["documents"] == 0
    few = {"weight": 0.5, "min_tokens": 10**6}
    with pytest.raises(DataError, match=r"data\.sources\.b: its .* got 0 training tokens") as error:
        told_of(spec_of(a=read["a"] | {"weight": 0.5, "max_tokens": 1}, b=read["b"] | few), encoder)
    assert "data.sources.a: its" in str(error.value)  # all at once
    with pytest.raises(DataError, match="at least one document"):
        told_of(spec_of(c=empty | {"weight": 1.0}), encoder)


@pytest.mark.parametrize("codec", ["gzip", "zstd"])
def test_compressed_bytes_are_those_that_were_needed(tmp_path: Path, codec: str):
    content = "\n".join(texts(3000)).encode()
    inputs = []
    for name in ("one", "two"):
        path = tmp_path / f"{name}.{'gz' if codec == 'gzip' else 'zst'}"
        with pa.CompressedOutputStream(str(path), codec) as file:
            file.write(content)
        inputs.append(Span(input=Input(name=name, url=str(path), size=path.stat().st_size)))
    size = inputs[0].input.size
    for share in (0.1, 0.5, 1.0, 1.6, 2.0):
        assert stored_before(inputs, int(share * len(content))) == pytest.approx(
            share * size, abs=0.05 * size
        )
    assert stored_before(inputs, 3 * len(content)) == 2 * size


def test_empty_documents_are_counted_whatever_is_empty_about_them(
    encoder: Encoder, tmp_path: Path, small: Small
):
    """One file has no byte and one has white space only, in units of their own."""
    for name, text in enumerate([" \n\n  ", *texts(4, scale=300), "", *texts(4, scale=300)]):
        (tmp_path / f"{name}.txt").write_text(text)
    source = {"kind": "files", "paths": [str(tmp_path)], "weight": 1.0}
    for sample in (1 << 20, 4_000):
        small(sample)
        dropped = told_of(spec_of(tokens=100, s=source), encoder)["dropped"]
        assert sample < 1 << 20 or dropped["empty"] == {"documents": 2, "bytes": 5}
