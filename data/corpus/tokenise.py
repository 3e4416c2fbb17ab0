"""How does one unit of raw documents become files of tokens, going on where it was stopped?

A file is closed at the first piece past `part_bytes` of text, wherever the unit was killed before: its files
are the same. How far they go is told by the record beside each: the documents read so far and the pieces of
the one that is open, whose text is then read again but not tokenised again.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from fsspec.utils import get_protocol

from ..encoding.encoder import Encoder
from ..errors import DataError, room_to_write
from ..sources.source import Input, Raw, Reader, Unit
from .content import Content, Told, key_of
from .manifest import FORMAT, file_hash, write_json
from .parts import PartWriter, Row

BATCH_BYTES = 1_000_000
"""Text that is tokenised at once."""

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
    hashes: bool = True
    """Hash the inputs that begin here."""

    def part(self, number: int) -> Path:
        """Name a file of tokens; its record has the same name with another ending."""
        return self.folder / f"{self.number:06}-{number:04}.arrow"

    @property
    def done(self) -> Path:
        """Name the record of a finished unit."""
        return self.folder / f"{self.number:06}.json"


@dataclass(frozen=True, kw_only=True)
class _Piece:
    """Some text or tokens of a document, in order."""

    raw: Raw
    number: int
    text: str | None = None
    tokens: np.ndarray | None = None
    size: int = 0
    """Bytes: of UTF-8, or of the tokens."""
    told: Told | None = None
    """What only the last piece knows."""


@dataclass(kw_only=True)
class _Progress:
    """How far a unit is."""

    documents: int = 0
    pieces: int = 0
    tokens: int = 0
    """Pieces and tokens of the open document."""
    bytes: int = 0
    """UTF-8 bytes of the open document's text."""
    dropped: dict[str, dict[str, int]] = field(default_factory=dict)
    parts: list[dict[str, Any]] = field(default_factory=list)

    def drop(self, reason: str, size: int) -> None:
        counts = Counter(self.dropped.get(reason, {}))
        self.dropped[reason] = dict(counts + Counter(documents=1, bytes=size))


def tokenise_unit(job: Job, reader: Reader, encoder: Encoder, count: Count = lambda _: None) -> None:
    """Write what is missing of a unit's files, then its record; nothing where the record is there."""
    if job.done.exists():
        return
    progress = _resumed(job)
    writer: PartWriter | None = None
    held = 0
    with room_to_write(job.folder):
        try:
            for piece, tokens in _encoded(_pieces(job, reader, encoder, progress), encoder):
                if piece.raw.fault is not None:
                    progress.drop(piece.raw.fault, piece.raw.stop - piece.raw.start)
                    progress.documents += 1
                    continue
                writer = writer or PartWriter(job.part(len(progress.parts)))
                writer.add(_row(job, encoder, piece, tokens, progress))
                held += piece.size
                count(piece.size)
                if held >= job.part_bytes:
                    _close(job, writer, progress)
                    writer, held = None, 0
            if writer is not None:
                _close(job, writer, progress)
        finally:
            if writer is not None:
                writer.abandon()
        begun = [span.input for span in job.unit.spans if span.start == 0 and job.hashes]
        hashes = {entry.name: hash_input(entry) for entry in begun}
        write_json(job.done, _record(job, progress) | {"hashes": hashes})


def hash_input(entry: Input) -> str | None:
    """Give the sha256 of an input's bytes as stored; None for a remote one, which its stamp tells apart."""
    if get_protocol(entry.url) not in ("file", "local"):
        return None
    return file_hash(Path(entry.url.removeprefix("file://")))


def read_record(path: Path, job: Job) -> dict[str, Any]:
    """Read a record of this job; DataError for one of another recipe, tokenizer or input."""
    told = json.loads(path.read_text("utf-8"))
    if told.get("format") != FORMAT or told.get("identity") != job.identity or told["unit"] != job.number:
        raise DataError(
            f"{path}: must be made by this recipe from the same inputs, got "
            f"{str(told.get('identity'))[:12]}, not {job.identity[:12]}; delete {path.parent}, prepare again"
        )
    return told


def _resumed(job: Job) -> _Progress:
    """Read how far the unit's files go."""
    progress = _Progress()
    while (record := job.part(len(progress.parts)).with_suffix(".json")).exists():
        told = read_record(record, job)
        progress = _Progress(**{name: told[name] for name in vars(progress)})
    return progress


def _record(job: Job, progress: _Progress) -> dict[str, Any]:
    return {"format": FORMAT, "identity": job.identity, "unit": job.number, **vars(progress)}


def _close(job: Job, writer: PartWriter, progress: _Progress) -> None:
    digest = writer.close()
    counts = {"documents": writer.documents, "rows": writer.rows, "tokens": writer.tokens}
    hashes = {"sha256": digest, "file": file_hash(writer.path)}
    progress.parts.append({"name": writer.path.name, **hashes, **counts})
    write_json(writer.path.with_suffix(".json"), _record(job, progress))


def _pieces(job: Job, reader: Reader, encoder: Encoder, progress: _Progress) -> Iterator[_Piece]:
    """Give the pieces that are not stored yet; a document that cannot be read is counted and left out."""
    stored = progress.pieces
    for raw in reader.read(job.unit, skip=progress.documents):
        if raw.fault is not None:
            yield _Piece(raw=raw, number=0)
            continue
        content = Content(keep_lines=job.keep_lines)
        for number, (block, last) in enumerate(_with_last(_blocks(raw, encoder))):
            is_text = isinstance(block, str)
            (content.feed if is_text else content.feed_tokens)(block)  # pyright: ignore[reportArgumentType]
            if number < stored:
                continue
            yield _Piece(
                raw=raw,
                number=number,
                text=block if is_text else None,
                tokens=None if is_text else block,
                size=len(block.encode()) if is_text else block.nbytes,
                told=content.tell() if last else None,
            )
        stored = 0


def _blocks(raw: Raw, encoder: Encoder) -> Iterable[str | np.ndarray]:
    """Give a document in pieces, at least one."""
    if raw.text is None:
        return [np.zeros(0, np.uint32) if raw.tokens is None else raw.tokens]
    return encoder.pieces(raw.text)


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
        made = iter(encoder.encode([piece.text for piece in batch if piece.text is not None]))
        for piece in batch:
            if piece.text is not None:
                yield piece, next(made)
            else:
                yield piece, np.zeros(0, np.uint32) if piece.tokens is None else piece.tokens


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


def _row(job: Job, encoder: Encoder, piece: _Piece, tokens: np.ndarray, progress: _Progress) -> Row:
    """Make a row of a piece and note that it is stored."""
    raw, told = piece.raw, piece.told
    if raw.tokens is not None:
        _check(tokens, encoder, raw, job)
        tokens = _bare(tokens, encoder)
    tokens = _framed(tokens, encoder, first=piece.number == 0, last=told is not None)
    start = progress.tokens
    progress.pieces, progress.tokens = piece.number + 1, start + len(tokens)
    progress.bytes += piece.size if raw.tokens is None else 0
    if told is None:
        return Row(tokens=tokens, source=job.source, id=raw.id, start=start, last=False)
    row = Row(
        tokens=tokens,
        source=job.source,
        id=raw.id,
        start=start,
        input=raw.input,
        span_start=raw.start,
        span_stop=raw.stop,
        bytes=progress.bytes,
        key=key_of(raw.id),
        heldout=told.heldout(job.holdout),
        empty=told.empty,
        lines=told.lines,
    )
    if told.empty:
        progress.drop("empty", progress.bytes)
    progress.documents += 1
    progress.pieces = progress.tokens = progress.bytes = 0
    return row


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
