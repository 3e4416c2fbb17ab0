"""What lies in the store, and how is a document of it found without reading the rest?

A file of tokens is plain Arrow IPC, which pyarrow or `datasets` read too. A row is a document, or a piece of
a long one: pieces follow each other, `start` counts the document's tokens before them, and the `last` one
says what is known of the whole, so that neither writing nor reading ever holds a long document. Each split
has an index, one row a document in canonical order: where its tokens begin and how many there are. Opening
maps the index; a file of tokens is mapped when one of its documents is first asked for.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, overload

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..errors import DataError
from ..whole import whole_file
from .manifest import read_manifest

SPLITS = ("train", "heldout")
Split = Literal["train", "heldout"]
BATCH_TOKENS = 1_000_000
"""Tokens that are written at once."""
MOST_MAPPED = 1024
"""Files of tokens that are mapped at once; the kernel allows a process some 65,000."""
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
INDEX = pa.schema(
    [
        ("source", pa.string()),
        ("id", pa.string()),
        ("part", pa.int32()),
        ("row", pa.int64()),
        ("length", pa.int64()),
        ("bytes", pa.int64()),
        ("input", pa.string()),
        ("span_start", pa.int64()),
        ("span_stop", pa.int64()),
        ("key", pa.uint64()),
    ]
)
"""Place: number of the part and of the row there that its tokens begin in; tokens; bytes of its text; which
bytes or rows of which input it was; a hash of its id."""


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
    """Take rows for one file: bounded memory, a running hash of everything written."""

    def __init__(self, file: pa.RecordBatchFileWriter) -> None:
        self._file = file
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
            self.flush()

    def flush(self) -> None:
        """Write the rows that are held."""
        if self._rows:
            columns = [_column(field, [getattr(row, field.name) for row in self._rows]) for field in SCHEMA]
            self._file.write_batch(pa.RecordBatch.from_arrays(columns, schema=SCHEMA))
        self._rows, self._held = [], 0

    @property
    def sha256(self) -> str:
        """Of sources, ids and tokens, in their order."""
        return self._hash.hexdigest()


@contextmanager
def write_part(path: Path) -> Iterator[PartWriter]:
    """Write one file of rows, whole or not at all."""
    with (
        whole_file(path) as writing,
        pa.OSFile(str(writing), "wb") as sink,
        pa.ipc.new_file(sink, SCHEMA) as file,
    ):
        writer = PartWriter(file)
        yield writer
        writer.flush()


class Part:
    """Read one file of rows, memory-mapped: a slice of tokens touches only its own bytes."""

    def __init__(self, path: Path) -> None:
        """DataError where the file is missing or torn."""
        self.table = _mapped(path)
        lists = self.table.column("tokens").chunks
        self._values = [column.values.to_numpy() for column in lists]
        self._offsets = [column.offsets.to_numpy() for column in lists]
        self._first = np.cumsum([0, *(len(column) for column in lists)])

    def __len__(self) -> int:
        return self.table.num_rows

    def tokens(self, row: int, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Give uint32 tokens [start, stop) of a row, a view of the mapped file."""
        batch, first, last = self._span(row)
        return self._values[batch][first + start : last if stop is None else first + stop]

    def tokens_of(self, row: int) -> int:
        """Count the tokens of a row."""
        _, first, last = self._span(row)
        return last - first

    def lengths(self) -> np.ndarray:
        """Give int64 tokens of every row."""
        return np.concatenate([np.zeros(0, np.int64), *(np.diff(offsets) for offsets in self._offsets)])

    def _span(self, row: int) -> tuple[int, int, int]:
        batch = int(np.searchsorted(self._first, row, side="right")) - 1
        first, last = self._offsets[batch][row - self._first[batch] :][:2].tolist()
        return batch, first, last


@dataclass(frozen=True, kw_only=True)
class Document:
    """Tokens of one document, or of its part from token `start` on."""

    tokens: np.ndarray
    source: str
    id: str
    start: int = 0


class Documents(Sequence[Document]):
    """The documents of one split of a corpus; a slice of tokens touches only its own bytes."""

    def __init__(self, corpus: Path, split: Split = "train") -> None:
        """DataError where the folder is no corpus or its index is torn."""
        self.folder = corpus
        self.manifest: dict[str, Any] = read_manifest(corpus, "corpus")
        self._parts: list[str] = self.manifest["parts"]
        self._index = _mapped(corpus / f"{split}.arrow")
        batches = self._index.to_batches()
        self._first = np.cumsum([0, *(batch.num_rows for batch in batches)])
        self._places = [
            [batch.column(name).to_numpy() for name in ("part", "row", "length")] for batch in batches
        ]
        self._open: OrderedDict[int, Part] = OrderedDict()

    def __len__(self) -> int:
        return self._index.num_rows

    @overload
    def __getitem__(self, index: int) -> Document: ...
    @overload
    def __getitem__(self, index: slice) -> list[Document]: ...
    def __getitem__(self, index: int | slice) -> Document | list[Document]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        row = index % len(self)
        source, id = self.name(row)
        return Document(tokens=self.tokens(row), source=source, id=id)

    def name(self, row: int) -> tuple[str, str]:
        """Give a document's source and id, reading no tokens."""
        return name_in(self._index, row)

    def tokens(self, row: int, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Give uint32 tokens [start, stop) of a document: a view of the mapped file, or a copy where they
        stand in several pieces."""
        batch = int(np.searchsorted(self._first, row, side="right")) - 1
        part, first, length = (int(column[row - self._first[batch]]) for column in self._places[batch])
        pieces = list(self._pieces(part, first, start, length if stop is None else min(stop, length)))
        return pieces[0] if len(pieces) == 1 else np.concatenate([np.zeros(0, np.uint32), *pieces])

    def lengths(self) -> np.ndarray:
        """Give int64 tokens of every document."""
        return self._column("length")

    def sizes(self) -> np.ndarray:
        """Give int64 UTF-8 bytes of every document's text; 0 where it was read as tokens."""
        return self._column("bytes")

    def keys(self) -> np.ndarray:
        """Give a uint64 hash of every document's id, the same on every machine."""
        return self._column("key")

    def ids(self) -> list[str]:
        """Give every document's id."""
        return self._index.column("id").to_pylist()

    def of_source(self, name: str) -> np.ndarray:
        """Give the int64 rows of a source's documents."""
        return rows_in(self._index, name)

    def _pieces(self, part: int, row: int, start: int, stop: int) -> Iterator[np.ndarray]:
        """Give what lies in [start, stop) of the document whose tokens begin at `row` of `part`."""
        end = 0
        while end < stop:
            opened = self._part(part)
            for number in range(row, len(opened)):
                begin, end = end, end + opened.tokens_of(number)
                if start < end:
                    yield opened.tokens(number, max(start - begin, 0), min(stop, end) - begin)
                if end >= stop:
                    return
            part, row = part + 1, 0  # earlier stores have files that end inside documents

    def _part(self, number: int) -> Part:
        if number not in self._open:
            self._open[number] = Part(self.folder / "parts" / self._parts[number])
            if len(self._open) > MOST_MAPPED:
                self._open.popitem(last=False)
        self._open.move_to_end(number)
        return self._open[number]

    def _column(self, name: str) -> np.ndarray:
        return self._index.column(name).to_numpy()


def open_documents(folder: str | Path, split: Split = "heldout") -> Documents:
    """Open a split of the corpus that a store, a corpus or a plan folder belongs to."""
    folder = Path(folder)
    for corpus in (folder / "corpus", folder, folder.parent.parent / "corpus"):
        if (corpus / f"{split}.arrow").exists():
            return Documents(corpus, split)
    raise DataError(f"{folder}: must hold a prepared corpus, got none; run prepare")


def name_in(table: pa.Table, row: int) -> tuple[str, str]:
    """Give source and id of a row."""
    source, id = (table.column(column)[row].as_py() for column in ("source", "id"))
    return source, id


def rows_in(table: pa.Table, source: str) -> np.ndarray:
    """Give the int64 rows of a source."""
    matches = pc.call_function("equal", [table.column("source"), source])
    return np.flatnonzero(matches.to_numpy()).astype(np.int64)


def _mapped(path: Path) -> pa.Table:
    """Map an Arrow file; DataError where it is missing or torn."""
    if not path.exists():
        raise DataError(f"{path}: must be a prepared file, got none; run prepare")
    try:
        return pa.ipc.open_file(pa.memory_map(str(path))).read_all()
    except pa.ArrowInvalid as error:
        raise DataError(f"{path}: must be a whole Arrow file, got: {error}; prepare it again") from error


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
