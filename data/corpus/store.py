"""How is a document of a corpus found among the files of the store, without reading them?

Each split has an index, one row a document in canonical order: where its tokens begin and how many there are.
Opening maps the index; a file of tokens is mapped when one of its documents is first asked for.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, overload

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..errors import DataError
from .manifest import read_manifest
from .parts import Part

SPLITS = ("train", "heldout")
Split = Literal["train", "heldout"]
MOST_MAPPED = 1024
"""Files of tokens that are mapped at once; the kernel allows a process some 65,000."""
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
        self._index = _open_index(corpus / f"{split}.arrow")
        self._first = np.cumsum([0, *(batch.num_rows for batch in self._index.to_batches())])
        self._places = [
            [batch.column(name).to_numpy() for name in ("part", "row", "length")]
            for batch in self._index.to_batches()
        ]
        self._mapped: OrderedDict[int, Part] = OrderedDict()

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
        source, id = (self._index.column(column)[row].as_py() for column in ("source", "id"))
        return source, id

    def tokens(self, row: int, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Give uint32 tokens [start, stop) of a document: a view of the mapped file, or a copy where they
        stand in several pieces."""
        part, first, length = self._place(row)
        opened = self._part(part)
        if opened.tokens_of(first) == length:
            return opened.tokens(first, start, length if stop is None else stop)
        pieces = list(self._pieces(part, first, start, length if stop is None else stop))
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
        own = pc.call_function("equal", [self._index.column("source"), name])
        return np.flatnonzero(own.to_numpy()).astype(np.int64)

    def _place(self, row: int) -> tuple[int, int, int]:
        batch = int(np.searchsorted(self._first, row, side="right")) - 1
        own = row - self._first[batch]
        part, first, length = (int(column[own]) for column in self._places[batch])
        return part, first, length

    def _pieces(self, part: int, row: int, start: int, stop: int) -> Iterator[np.ndarray]:
        """Give what lies in [start, stop) of the document whose tokens begin at `row` of `part`; what does
        not fit there goes on with the first row of the next part."""
        end = 0
        while end < stop:
            opened = self._part(part)
            for begin, number in opened.run(row):
                end = begin + opened.tokens_of(number)
                if start < end and begin < stop:
                    yield opened.tokens(number, max(start - begin, 0), min(stop, end) - begin)
            part, row = part + 1, 0

    def _part(self, number: int) -> Part:
        if number not in self._mapped:
            self._mapped[number] = Part(self.folder / "parts" / self._parts[number])
            if len(self._mapped) > MOST_MAPPED:
                self._mapped.popitem(last=False)
        self._mapped.move_to_end(number)
        return self._mapped[number]

    def _column(self, name: str) -> np.ndarray:
        return self._index.column(name).to_numpy()


def write_index(path: Path, batches: Iterator[pa.RecordBatch]) -> None:
    """Write the index of a split."""
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, INDEX) as file:
        for batch in batches:
            file.write_batch(batch)


def open_documents(folder: str | Path, split: Split = "heldout") -> Documents:
    """Open a split of the corpus that a store, a corpus or a plan folder belongs to."""
    folder = Path(folder)
    for corpus in (folder / "corpus", folder, folder.parent.parent / "corpus"):
        if (corpus / f"{split}.arrow").exists():
            return Documents(corpus, split)
    raise DataError(f"{folder}: must hold a prepared corpus, got none; run prepare")


def _open_index(path: Path) -> pa.Table:
    if not path.exists():
        raise DataError(f"{path}: must be a prepared file, got none; run prepare")
    try:
        return pa.ipc.open_file(pa.memory_map(str(path))).read_all()
    except pa.ArrowInvalid as error:
        raise DataError(f"{path}: must be a whole Arrow file, got: {error}; prepare it again") from error
