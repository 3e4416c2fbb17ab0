"""What is one file of the store? Rows of tokens with where they came from, in Arrow IPC.

A row is a document, or a piece of a long one: pieces follow each other, `start` counts the document's tokens
before them, and the `last` one says what is known of the whole. So neither writing nor reading ever holds a
long document, and plain pyarrow or `datasets` read the file.
"""

from __future__ import annotations

import hashlib
import os
import socket
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from ..errors import DataError

BATCH_TOKENS = 1_000_000
SCHEMA = pa.schema(
    [
        ("tokens", pa.large_list(pa.uint32())),
        ("source", pa.string()),
        ("id", pa.string()),
        ("start", pa.int64()),
        ("last", pa.bool_()),
        ("input", pa.string()),
        ("span_start", pa.int64()),
        ("span_stop", pa.int64()),
        ("bytes", pa.int64()),
        ("key", pa.uint64()),
        ("heldout", pa.bool_()),
        ("empty", pa.bool_()),
        ("lines", pa.large_list(pa.uint64())),
    ]
)
FACTS = [name for name in SCHEMA.names if name not in ("tokens", "lines")]
"""Columns that are small: all but tokens and the hashes of lines."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """A document or a piece of one, before it is written; only the last piece knows what is None here."""

    tokens: np.ndarray
    source: str
    id: str
    start: int = 0
    last: bool = True
    input: str = ""
    span_start: int | None = None
    span_stop: int | None = None
    bytes: int | None = None
    key: int | None = None
    heldout: bool | None = None
    empty: bool | None = None
    lines: np.ndarray | None = None


class PartWriter:
    """Write one file of rows: bounded memory, a running hash of everything written, whole or absent."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._writing = path.with_name(f".{path.name}-{socket.gethostname()}-{os.getpid()}")
        self._sink = pa.OSFile(str(self._writing), "wb")
        self._file = pa.ipc.new_file(self._sink, SCHEMA)
        self._hash = hashlib.sha256()
        self._rows: list[Row] = []
        self._held = 0
        self.rows = self.documents = self.tokens = 0

    def add(self, row: Row) -> None:
        """Append a row."""
        self._rows.append(row)
        self._hash.update(f"{row.source}\0{row.id}\0{row.start}\0{row.last}\0{len(row.tokens)}\0".encode())
        self._hash.update(np.ascontiguousarray(row.tokens, dtype="<u4").data)
        self.rows += 1
        self.documents += row.last
        self.tokens += len(row.tokens)
        self._held += len(row.tokens)
        if self._held >= BATCH_TOKENS:
            self._flush()

    def close(self) -> str:
        """Finish the file, give it its name and return the sha256 over its sources, ids and tokens."""
        self._flush()
        self._file.close()
        self._sink.close()
        self._writing.replace(self.path)
        return self._hash.hexdigest()

    def abandon(self) -> None:
        """Let go of the file; nothing is left of one that was not closed."""
        with suppress(OSError):
            self._sink.close()
        self._writing.unlink(missing_ok=True)

    def _flush(self) -> None:
        if not self._rows:
            return
        columns = [_column(field, [getattr(row, field.name) for row in self._rows]) for field in SCHEMA]
        self._file.write_batch(pa.RecordBatch.from_arrays(columns, schema=SCHEMA))
        self._rows, self._held = [], 0


class Part:
    """Read one file of rows, memory-mapped: a slice of tokens touches only its own bytes."""

    def __init__(self, path: Path) -> None:
        """DataError where the file is missing or torn."""
        if not path.exists():
            raise DataError(f"{path}: must be a prepared file, got none; run prepare")
        try:
            self._file = pa.ipc.open_file(pa.memory_map(str(path)))
            batches = [self._file.get_batch(i) for i in range(self._file.num_record_batches)]
        except pa.ArrowInvalid as error:
            raise DataError(f"{path}: must be a whole Arrow file, got: {error}; prepare it again") from error
        self.path = path
        self.table = pa.Table.from_batches(batches, schema=SCHEMA)
        lists = [batch.column("tokens") for batch in batches]
        self._values = [column.values.to_numpy() for column in lists]
        self._offsets = [column.offsets.to_numpy() for column in lists]
        self._first = np.cumsum([0, *(len(column) for column in lists)])
        self._starts = self.table.column("start").to_numpy()

    def __len__(self) -> int:
        return int(self._first[-1])

    def tokens(self, row: int, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Give uint32 tokens [start, stop) of a row, a view of the mapped file."""
        batch = int(np.searchsorted(self._first, row, side="right")) - 1
        first, last = self._offsets[batch][row - self._first[batch] :][:2].tolist()
        return self._values[batch][first + start : last if stop is None else first + stop]

    def tokens_of(self, row: int) -> int:
        """Count the tokens of a row."""
        batch = int(np.searchsorted(self._first, row, side="right")) - 1
        first, last = self._offsets[batch][row - self._first[batch] :][:2].tolist()
        return last - first

    def lengths(self) -> np.ndarray:
        """Give int64 tokens of every row."""
        return np.concatenate([np.zeros(0, np.int64), *(np.diff(offsets) for offsets in self._offsets)])

    def run(self, row: int) -> Iterator[tuple[int, int]]:
        """Give (tokens of the document before it, row) of each piece here, from the document's first on."""
        starts = self._starts[row:]
        others = np.flatnonzero(starts[1:] == 0)
        count = int(others[0]) + 1 if len(others) else len(starts)
        return zip(starts[:count].tolist(), range(row, row + count), strict=True)


def _column(field: pa.Field, values: list) -> pa.Array:
    if field.name == "tokens":
        return _lists(values, pa.uint32())
    if field.name == "lines" and any(value is not None for value in values):
        return _lists([np.zeros(0, np.uint64) if value is None else value for value in values], pa.uint64())
    return pa.array(values, field.type)


def _lists(arrays: list[np.ndarray], kind: pa.DataType) -> pa.LargeListArray:
    """Lay arrays end to end, without a Python object a number."""
    offsets = np.concatenate([[0], np.cumsum([len(array) for array in arrays], dtype=np.int64)])
    values = np.concatenate(arrays).astype(kind.to_pandas_dtype(), copy=False)
    return pa.LargeListArray.from_arrays(pa.array(offsets, pa.int64()), pa.array(values, kind))
