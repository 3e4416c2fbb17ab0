"""A corpus is the same whoever shares the work, holds every document to the token, and tells when not."""

import itertools
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from ropewalk.data import DataError, DataSpec, open_documents, read_manifest
from ropewalk.data.corpus.build import build_corpus, merge_corpus
from ropewalk.data.corpus.check import check_folder
from ropewalk.data.corpus.manifest import write_manifest
from ropewalk.data.corpus.store import INDEX, Row, write_part
from ropewalk.data.corpus.work import Task
from ropewalk.data.encoding.encoder import Encoder

Spec = Callable[..., DataSpec]


def content(corpus: Path) -> dict[str, bytes]:
    """Read every file of a corpus but the manifest, which has versions."""
    files = (path for path in corpus.rglob("*") if path.is_file() and path.name != "manifest.json")
    return {str(path.relative_to(corpus)): path.read_bytes() for path in files}


def texts(corpus: Path, encoder: Encoder) -> dict[str, str]:
    return {
        document.id: encoder.decode(document.tokens[:-1])
        for split in ("train", "heldout")
        for document in open_documents(corpus, split=split)
    }


def test_the_store_is_the_same_whatever_the_cut(spec: Spec, encoder: Encoder, lines: Path, tmp_path: Path):
    alone = tmp_path / "alone/corpus"
    build_corpus(spec(), encoder, alone)
    assert len(read_manifest(alone, "corpus")["parts"]) > 10
    for count, order in ((3, (2, 1, 3)), (7, range(7, 0, -1))):
        shared = tmp_path / f"shared-{count}/corpus"
        for number in order:
            assert build_corpus(spec(), encoder, shared, task=Task(number=number, count=count)) is None
        merge_corpus(spec(), encoder, shared)
        assert content(shared) == content(alone)
    written = {json.loads(line)["id"]: json.loads(line)["text"] for line in lines.read_text().splitlines()}
    assert texts(alone, encoder) == written
    assert not list((tmp_path / "alone").glob("unfinished-*"))


@pytest.mark.slow
def test_workers_make_the_same_store(spec: Spec, encoder: Encoder, tmp_path: Path):
    for workers in (1, 2):
        build_corpus(spec(), encoder, tmp_path / f"{workers}/corpus", workers=workers)
    assert content(tmp_path / "1/corpus") == content(tmp_path / "2/corpus")


def test_tasks_made_elsewhere_are_brought_together(spec: Spec, encoder: Encoder, tmp_path: Path):
    """Machines without a common disk: each one's folder is copied into one."""
    for number in (1, 2):
        build_corpus(spec(), encoder, tmp_path / f"m{number}/corpus", task=Task(number=number, count=2))
        shutil.copytree(tmp_path / f"m{number}", tmp_path / "one", dirs_exist_ok=True)
    merge_corpus(spec(), encoder, tmp_path / "one/corpus")
    build_corpus(spec(), encoder, tmp_path / "alone/corpus")
    assert content(tmp_path / "one/corpus") == content(tmp_path / "alone/corpus")


def test_a_missing_task_is_named(spec: Spec, encoder: Encoder, tmp_path: Path):
    build_corpus(spec(), encoder, tmp_path / "corpus", task=Task(number=1, count=2))
    with pytest.raises(DataError, match=r"all \d+ units.*missing unit 1 of data\.sources\.s.*run the tasks"):
        merge_corpus(spec(), encoder, tmp_path / "corpus")
    assert not (tmp_path / "corpus").exists()


def test_a_foreign_task_is_named(spec: Spec, encoder: Encoder, tmp_path: Path):
    for number, holdout in ((1, 0.2), (2, 0.3)):
        task = Task(number=number, count=2)
        build_corpus(spec(holdout=holdout), encoder, tmp_path / "corpus", task=task)
    with pytest.raises(DataError, match=r"another's: holdout \(0\.3 there, 0\.2 asked\)"):
        merge_corpus(spec(), encoder, tmp_path / "corpus")
    ours, theirs = sorted(
        tmp_path.glob("unfinished-*"), key=lambda p: "0.3" in (p / "identity.json").read_text()
    )
    shutil.copytree(theirs / "parts", ours / "parts", dirs_exist_ok=True)
    with pytest.raises(DataError, match=r"made by this recipe.*delete"):
        merge_corpus(spec(), encoder, tmp_path / "corpus")


def test_two_writers_at_once(spec: Spec, encoder: Encoder, tmp_path: Path):
    def intrude(phase: str, done: int, total: int) -> None:
        build_corpus(spec(), encoder, tmp_path / "corpus")

    with pytest.raises(DataError, match=r"one process a task, got process \d+ of .*wait"):
        build_corpus(spec(), encoder, tmp_path / "corpus", progress=intrude)
    build_corpus(spec(), encoder, tmp_path / "corpus")


@pytest.mark.parametrize("text", ["0/4", "5/4", "4", "a/b", ""])
def test_bad_tasks(text: str):
    with pytest.raises(DataError, match=r"--tasks.*i/n.*write"):
        Task.parse(text)


def test_a_document_longer_than_its_pieces(spec: Spec, encoder: Encoder, tmp_path: Path):
    """A text of several megabytes in small parts is read back whole, from any token on."""
    draw = np.random.default_rng(0)
    long = "".join(f"line {n} of {n % 7}\n" for n in draw.integers(10**9, size=150_000))
    (tmp_path / "t").mkdir()
    (tmp_path / "t/long.txt").write_text(long)
    (tmp_path / "t/short.txt").write_text("short\n")
    source = {"kind": "files", "paths": [str(tmp_path / "t")]}
    whole = DataSpec.model_validate(
        {"holdout": 0.0, "part_bytes": 1_500_000, "sources": {"s": source | {"weight": 1.0}}}
    )
    build_corpus(whole, encoder, tmp_path / "corpus")
    documents = open_documents(tmp_path / "corpus", split="train")
    assert len(read_manifest(tmp_path / "corpus", "corpus")["parts"]) > 1
    assert [d.id for d in documents] == ["t/long.txt", "t/short.txt"]
    [expected] = encoder.encode([long])
    assert np.array_equal(documents.tokens(0), [*expected, *encoder.closes])
    assert documents.lengths()[0] == len(expected) + 1
    for start, stop in draw.integers(len(expected), size=(40, 2)):
        assert np.array_equal(documents.tokens(0, start, stop), expected[start:stop])


def test_a_store_whose_files_end_inside_documents_is_read(tmp_path: Path):
    """Earlier ropewalks wrote such; here (document, first token, tokens) of each row."""
    parts = [[(0, 0, 3), (0, 3, 4)], [(0, 7, 2), (1, 0, 5)], [(1, 5, 1)], [(1, 6, 3), (2, 0, 2)]]
    whole = [np.arange(9), 10 + np.arange(9), 20 + np.arange(2)]
    (tmp_path / "parts").mkdir()
    for number, rows in enumerate(parts):
        with write_part(tmp_path / f"parts/{number}") as writer:
            for document, start, length in rows:
                tokens = whole[document][start : start + length]
                last = start + length == len(whole[document])
                writer.add(Row(tokens=tokens, source="s", id=str(document), start=start, last=last))
    places = {"part": [0, 1, 3], "row": [0, 1, 1], "length": [9, 9, 2], "id": ["0", "1", "2"]}
    with pa.OSFile(str(tmp_path / "train.arrow"), "wb") as sink, pa.ipc.new_file(sink, INDEX) as file:
        columns = [pa.array(places.get(column.name, [None] * 3), column.type) for column in INDEX]
        file.write_batch(pa.RecordBatch.from_arrays(columns, schema=INDEX))
    write_manifest(tmp_path, "corpus", {"parts": [str(number) for number in range(len(parts))]})
    documents = open_documents(tmp_path, split="train")
    for row, tokens in enumerate(whole):
        for start, stop in itertools.combinations(range(len(tokens) + 2), 2):
            assert documents.tokens(row, start, stop).tolist() == tokens[start:stop].tolist()


def test_duplicate_ids(spec: Spec, encoder: Encoder, lines: Path, tmp_path: Path):
    first, *rest = lines.read_text().splitlines(keepends=True)
    lines.write_text("".join([first, *rest, first.replace("word", "other")]))
    with pytest.raises(DataError, match=r"its own id, got n0 in all\.jsonl at 0 and in .*on_error"):
        build_corpus(spec(), encoder, tmp_path / "corpus")
    skipping = spec(source={"on_error": "skip"})
    manifest = build_corpus(skipping, encoder, tmp_path / "corpus")
    assert manifest is not None
    assert manifest["dropped"]["duplicate_id"]["documents"] == 1
    assert texts(tmp_path / "corpus", encoder)["n0"] == "word0 0\n"
    assert build_corpus(skipping, encoder, tmp_path / "corpus") == manifest
    with pytest.raises(DataError, match=r"s\.on_error \(skip there, raise asked\)"):
        build_corpus(spec(), encoder, tmp_path / "corpus")


def test_check_names_what_is_broken(spec: Spec, encoder: Encoder, tmp_path: Path):
    build_corpus(spec(), encoder, tmp_path / "corpus")
    parts = sorted((tmp_path / "corpus/parts").iterdir())
    assert check_folder(tmp_path / "corpus", "corpus") == len(parts) + 4
    documents = open_documents(tmp_path / "corpus", split="train")
    part = parts[int(documents._index.column("part")[5].as_py())]
    spoiled = bytearray(part.read_bytes())
    at = spoiled.find(documents.tokens(5)[:4].astype("<u4").tobytes())
    spoiled[at] ^= 1
    part.write_bytes(spoiled)
    with pytest.raises(DataError, match=rf"{part.name}.*sha256.*prepare again"):
        check_folder(tmp_path / "corpus", "corpus")
