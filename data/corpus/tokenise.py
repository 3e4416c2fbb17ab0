"""How does one unit of raw documents become files of tokens, going on where it was stopped?

A file is closed after the first document that ends past `part_bytes` of text, wherever the unit was killed
before: its files are the same. How far they go is told by the record beside each.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from ..counts import Counts
from ..encoding.encoder import Encoder
from ..errors import DataError
from ..sources.files import hash_of_all, stamp_of_all
from ..sources.source import Input, Raw, Reader, Unit
from ..whole import room_to_write, write_json
from .content import Content, ContentFacts, key_of
from .manifest import FORMAT, file_hash
from .store import Row, write_part

BATCH_BYTES = 1_000_000
"""Text that is tokenised at once."""
NOTHING = np.zeros(0, np.uint32)

Count = Callable[[int], None]
"""Told the bytes of text as they are stored."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """One unit of one source, and where its files go."""

    number: int
    source: str
    unit: Unit
    folder: Path
    identity: str
    holdout: float
    keep_lines: bool
    part_bytes: int
    hashes: frozenset[str] = frozenset()
    """Names of the inputs that are hashed once they are read."""

    @property
    def inputs(self) -> dict[str, Input]:
        """What the unit reads, by name."""
        return {span.input.name: span.input for span in self.unit.spans}

    def part(self, number: int) -> Path:
        """Name a file of tokens; its record has the same name with another ending."""
        return self.folder / f"{self.number:06}-{number:04}.arrow"

    @property
    def done(self) -> Path:
        """Name the record of a finished unit."""
        return self.folder / f"{self.number:06}.json"


@dataclass(frozen=True, kw_only=True)
class _Piece:
    """Some text or tokens of a document, in order; nothing of one that cannot be read."""

    raw: Raw
    content: str | np.ndarray
    size: int = 0
    """Bytes: of UTF-8, or of the tokens."""
    first: bool = True
    facts: ContentFacts | None = None
    """What only the last piece knows."""


@dataclass(kw_only=True)
class _Done:
    """How far a unit's files go."""

    documents: int = 0
    dropped: Counts = field(default_factory=Counts)
    parts: list[dict[str, Any]] = field(default_factory=list)


def last_record(job: Job) -> dict[str, Any] | None:
    """Read how far a unit's files go: the record of all of it, or of its last file."""
    if job.done.exists():
        return read_record(job.done, job)
    last, number = None, 0
    while (path := job.part(number).with_suffix(".json")).exists():
        last, number = path, number + 1
    return read_record(last, job) if last else None


def tokenise_unit(job: Job, reader: Reader, encoder: Encoder, count: Count = lambda _: None) -> None:
    """Write what is missing of a unit's files, then its record; nothing where the record is there."""
    if job.done.exists():
        return
    still = [entry for entry in job.inputs.values() if not entry.beside or entry.name in job.hashes]
    refuse_moved(job.source, still)  # those of many files by one unit, and when all units are done
    done = _resumed(job)
    rows = _rows(job, reader, encoder, done)
    with room_to_write(job.folder):
        for first in rows:
            _write(job, chain([first], rows), done, count)
        hashes = {name: hash_of_all(job.inputs[name].files) for name in job.hashes}
        refuse_moved(job.source, still)
        write_json(job.done, _record(job, done, hashes))


def refuse_moved(source: str, entries: Iterable[Input]) -> None:
    """Raise where an input is not what it was when it was listed, which decided what is read of it."""
    for entry in entries:
        if entry.stamp and stamp_of_all(entry.files) != entry.stamp:
            raise DataError(
                f"data.sources.{source}: {entry.name} must stay what it was when it was listed, got other "
                "bytes or times while it was read; wait until nothing writes to it, and run this again"
            )


def _write(job: Job, rows: Iterator[tuple[Row, int]], done: _Done, count: Count) -> None:
    """Write the next file of a unit, of whole documents, and beside it how far it goes."""
    path, held = job.part(len(done.parts)), 0
    with write_part(path) as writer:
        for row, size in rows:
            writer.add(row)
            count(size)
            held += size
            if row.last and held >= job.part_bytes:
                break
    counts = {"documents": writer.documents, "rows": writer.rows, "tokens": writer.tokens}
    done.parts.append({"name": path.name, "sha256": writer.sha256, "file": file_hash(path), **counts})
    write_json(path.with_suffix(".json"), _record(job, done))


def read_record(path: Path, job: Job) -> dict[str, Any]:
    """Read a record of this job; DataError for one of another recipe, tokenizer or input, or an earlier
    ropewalk's."""
    record = json.loads(path.read_text("utf-8"))
    ours = record.get("format") == FORMAT and record.get("identity") == job.identity
    earlier = ours and (record.get("pieces") or "inputs" not in record)
    if not ours or record["unit"] != job.number or earlier:
        made_by = "an earlier ropewalk's" if earlier else str(record.get("identity"))[:12]
        raise DataError(
            f"{path}: must be made by this recipe from the same inputs, got {made_by}, not "
            f"{job.identity[:12]}; delete {path.parent}, prepare again"
        )
    return record


def _resumed(job: Job) -> _Done:
    record = last_record(job)
    if record is None:
        return _Done()
    return _Done(
        documents=record["documents"], dropped=Counts.total([record["dropped"]]), parts=record["parts"]
    )


def _record(job: Job, done: _Done, hashes: Mapping[str, str | None] = MappingProxyType({})) -> dict[str, Any]:
    """Say how far the files go, and of which inputs: each as it was when it was listed."""
    inputs = {name: {"stamp": entry.stamp, "sha256": hashes.get(name)} for name, entry in job.inputs.items()}
    return {
        "format": FORMAT,
        "identity": job.identity,
        "unit": job.number,
        "inputs": inputs,
        **vars(done),
    }


def _pieces(job: Job, reader: Reader, encoder: Encoder, skip: int) -> Iterator[_Piece]:
    """Give the pieces of the documents after the first `skip`."""
    for raw in reader.read(job.unit, skip=skip):
        if raw.fault is not None:
            yield _Piece(raw=raw, content=NOTHING)
            continue
        content = Content(keep_lines=job.keep_lines)
        blocks = (
            [NOTHING if raw.tokens is None else raw.tokens] if raw.text is None else encoder.pieces(raw.text)
        )
        for number, (block, last) in enumerate(_with_last(blocks)):
            (content.feed if isinstance(block, str) else content.feed_tokens)(block)  # pyright: ignore
            size = len(block.encode()) if isinstance(block, str) else block.nbytes
            facts = content.facts() if last else None
            yield _Piece(raw=raw, content=block, size=size, first=number == 0, facts=facts)


def _with_last(blocks: Iterable[Any]) -> Iterator[tuple[Any, bool]]:
    """Tell of each block whether it is the last; nothing at all is one empty block."""
    rest = iter(blocks)
    held = next(rest, "")
    for block in rest:
        yield held, False
        held = block
    yield held, True


def _encoded(pieces: Iterable[_Piece], encoder: Encoder) -> Iterator[tuple[_Piece, np.ndarray]]:
    """Tokenise pieces in batches, in order."""
    for batch in _batches(pieces):
        made = iter(encoder.encode([piece.content for piece in batch if isinstance(piece.content, str)]))
        for piece in batch:
            yield piece, next(made) if isinstance(piece.content, str) else piece.content


def _batches(pieces: Iterable[_Piece]) -> Iterator[list[_Piece]]:
    """Group pieces so that a batch stays below BATCH_BYTES or holds a single one."""
    batch: list[_Piece] = []
    held = 0
    for piece in pieces:
        if batch and held + piece.size > BATCH_BYTES:
            yield batch
            batch, held = [], 0
        batch.append(piece)
        held += piece.size
    if batch:
        yield batch


def _rows(job: Job, reader: Reader, encoder: Encoder, done: _Done) -> Iterator[tuple[Row, int]]:
    """Give the rows that are not stored yet with the bytes of each, noting each document in `done`; one that
    cannot be read is counted and left out."""
    start = size = 0  # tokens and bytes of the open document
    for piece, tokens in _encoded(_pieces(job, reader, encoder, done.documents), encoder):
        raw, facts = piece.raw, piece.facts
        if raw.fault is not None:
            done.documents += 1
            lost = {"bytes": raw.stop - raw.start} if reader.in_bytes else {}
            done.dropped.add(raw.fault, documents=1, **lost)
            continue
        if raw.tokens is not None:
            _check(tokens, encoder, raw, job)
            tokens = _bare(tokens, encoder)
        tokens = _framed(tokens, encoder, first=piece.first, last=facts is not None)
        size += piece.size if raw.tokens is None else 0
        row = Row(tokens=tokens, source=job.source, id=raw.id, start=start, last=facts is not None)
        start += len(tokens)
        if facts is not None:
            row = replace(
                row,
                input=raw.input,
                span_start=raw.start,
                span_stop=raw.stop,
                bytes=size,
                key=key_of(raw.id),
                heldout=facts.heldout(job.holdout),
                empty=facts.empty,
                lines=facts.lines,
            )
            done.documents += 1
            if facts.empty:
                done.dropped.add("empty", documents=1, bytes=size)
            start = size = 0
        yield row, piece.size


def _framed(tokens: np.ndarray, encoder: Encoder, *, first: bool, last: bool) -> np.ndarray:
    """Put what opens and what closes a document around its tokens."""
    parts = [encoder.opens] * first + [tokens] + [encoder.closes] * last
    return np.concatenate(parts).astype(np.uint32, copy=False)


def _bare(tokens: np.ndarray, encoder: Encoder) -> np.ndarray:
    """Take off what a token store has put around a document, so that it is not put there twice."""
    opens, closes = encoder.opens, encoder.closes
    if len(opens) and np.array_equal(tokens[: len(opens)], opens):
        tokens = tokens[len(opens) :]
    if len(closes) and np.array_equal(tokens[-len(closes) :], closes):
        tokens = tokens[: -len(closes)]
    return tokens


def _check(tokens: np.ndarray, encoder: Encoder, raw: Raw, job: Job) -> None:
    highest = int(tokens.max(initial=0))
    if highest >= encoder.vocabulary:
        raise DataError(
            f"data.sources.{job.source}: tokens must be below the vocabulary of {encoder.vocabulary:,}, got "
            f"{highest:,} in document {raw.id}; name the tokenizer that made them"
        )
