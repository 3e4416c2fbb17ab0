"""A unit's files are the same wherever it was stopped, and hold every document whatever its length."""

import json
import shutil
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from world.raw_documents import CLOSE, Bytes, Memory

from ropewalk.data import DataError
from ropewalk.data.corpus.content import Content
from ropewalk.data.corpus.store import Part
from ropewalk.data.corpus.tokenise import Job, tokenise_unit

QUIET = settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
LINES = st.lists(st.text("ab \nçé", max_size=30), max_size=8).map("\n".join)
TEXTS = st.lists(st.none() | LINES, min_size=1, max_size=8)


class Killed(BaseException):
    """A process that ends."""


def job_of(reader: Memory, folder: Path, part_bytes: int = 100, identity: str = "ours") -> Job:
    folder.mkdir(exist_ok=True, parents=True)
    return Job(
        number=3,
        source="s",
        unit=reader.unit(),
        folder=folder,
        identity=identity,
        holdout=0.3,
        keep_lines=True,
        part_bytes=part_bytes,
    )


def tokenise(job: Job, reader: Any, encoder: Any, count: Any = lambda _: None) -> None:
    """Tokenise with stand-ins for the reader and the encoder."""
    tokenise_unit(job, reader, encoder, count)


def run(texts: Sequence[str | None], folder: Path, *, kill_after: int | None = None, **fields) -> Job:
    """Tokenise one unit; killed after so many stored pieces where asked."""
    reader = Memory(texts)
    job = job_of(reader, folder, **fields)
    left = kill_after

    def count(size: int) -> None:
        nonlocal left
        if left is not None:
            left -= 1
            if left < 0:
                raise Killed

    tokenise(job, reader, Bytes(), count)
    return job


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def documents(folder: Path) -> list[list[int]]:
    """Join the pieces of every document; no file ends inside one."""
    found: list[list[int]] = []
    for path in sorted(folder.glob("*.arrow")):
        part, open_ = Part(path), False
        for row, last in enumerate(part.table.column("last").to_pylist()):
            if not open_:
                found.append([])
            found[-1] += part.tokens(row).tolist()
            open_ = not last
        assert not open_
    return found


@QUIET
@given(texts=TEXTS, part_bytes=st.integers(1, 120))
def test_every_readable_document_is_stored_whole(tmp_path: Path, texts: list[str | None], part_bytes: int):
    folder = tmp_path / "unit"
    shutil.rmtree(folder, ignore_errors=True)
    job = run(texts, folder, part_bytes=part_bytes)
    readable = [text for text in texts if text is not None]
    assert documents(folder) == [[*text.encode(), CLOSE] for text in readable]
    told = json.loads(job.done.read_text())
    assert told["documents"] == len(texts)
    broken = {"documents": texts.count(None)}  # a row has no bytes
    assert told["dropped"].get("null", {"documents": 0}) == broken
    empty = [len(text.encode()) for text in readable if not text.strip()]
    dropped = {"documents": len(empty), "bytes": sum(empty)}
    assert told["dropped"].get("empty", {"documents": 0, "bytes": 0}) == dropped


@QUIET
@given(texts=TEXTS, kills=st.lists(st.integers(0, 5), max_size=4))
def test_a_unit_goes_on_where_it_was_killed(tmp_path: Path, texts: list[str | None], kills: list[int]):
    for name in ("straight", "killed"):
        shutil.rmtree(tmp_path / name, ignore_errors=True)
    run(texts, tmp_path / "straight", part_bytes=30)
    for kill in kills:
        try:
            run(texts, tmp_path / "killed", part_bytes=30, kill_after=kill)
        except Killed:
            assert not (tmp_path / "killed" / "000003.json").exists()
    run(texts, tmp_path / "killed", part_bytes=30)
    assert files(tmp_path / "killed") == files(tmp_path / "straight")


def test_what_is_stored_is_not_tokenised_again(tmp_path: Path):
    """Documents of 400 bytes in pieces of 40, two documents a file: two files are there, not a third."""
    texts = ["".join(f"{'y' * 38}{i % 10}\n" for i in range(10))] * 8
    with pytest.raises(Killed):
        run(texts, tmp_path, part_bytes=800, kill_after=55)
    assert len(list(tmp_path.glob("*.arrow"))) == 2
    again = Bytes()
    tokenise(job_of(Memory(texts), tmp_path, part_bytes=800), Memory(texts), again)
    assert again.encoded == 3200 - 1600


def test_tokens_are_taken_as_they_are_and_closed_once(tmp_path: Path):
    reader = Memory(["some", ""], tokens=True)
    job = job_of(reader, tmp_path / "unit")
    closed = Bytes()
    closed.closes = np.array([ord("e")], np.uint32)
    tokenise(job, reader, closed)
    assert documents(tmp_path / "unit") == [[*b"some"], [*b"e"]]


def test_tokens_beyond_the_vocabulary_are_refused(tmp_path: Path):
    reader, small = Memory(["zebra"], tokens=True), Bytes()
    small.vocabulary = 100
    with pytest.raises(DataError, match=r"sources\.s.*vocabulary of 100, got 122.*name the tokenizer"):
        tokenise(job_of(reader, tmp_path / "unit"), reader, small)
    assert not list((tmp_path / "unit").iterdir())


def test_a_record_of_another_recipe_is_refused(tmp_path: Path):
    with pytest.raises(Killed):
        run(["a\n" * 50] * 4, tmp_path / "unit", kill_after=8)
    with pytest.raises(DataError, match=r"got ours, not theirs.*delete"):
        run(["a\n" * 50] * 4, tmp_path / "unit", identity="theirs")


def test_a_file_that_ends_inside_a_document_is_not_gone_on_with(tmp_path: Path):
    """An earlier ropewalk wrote such files and noted how many pieces were stored."""
    with pytest.raises(Killed):
        run(["a\n" * 50] * 4, tmp_path, kill_after=4)
    [record] = tmp_path.glob("*.json")
    record.write_text(json.dumps(json.loads(record.read_text()) | {"pieces": 2}))
    with pytest.raises(DataError, match=r"an earlier ropewalk's.*delete"):
        run(["a\n" * 50] * 4, tmp_path)


@given(text=st.text("ab \n\t\u2003é", max_size=60), cuts=st.lists(st.integers(0, 60), max_size=4))
def test_content_does_not_depend_on_blocks_or_layout(text: str, cuts: list[int]):
    def told(blocks: Sequence[str]):
        content = Content(keep_lines=True)
        for block in blocks:
            content.feed(block)
        return content.facts()

    edges = [0, *sorted(cuts), len(text)]
    pieces = [text[a:b] for a, b in pairwise(edges)]
    plain = "\n".join(line.strip() for line in text.split("\n") if line.strip())
    whole, cut, normal = told([text]), told(pieces), told([plain])
    assert whole.draw == cut.draw == normal.draw
    assert whole.empty == cut.empty == (not plain)
    assert whole.lines is not None
    assert cut.lines is not None
    assert np.array_equal(whole.lines, cut.lines)
