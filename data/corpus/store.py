"""Where do token documents rest on disk, and how are they read without loading them?

Arrow IPC files, memory-mapped, readable by plain pyarrow; a folder of them with a manifest is whole or
absent.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, overload

import numpy as np
import pyarrow as pa

from ..errors import DataError, room_to_write

FORMAT = 1
MANIFEST = "manifest.json"
BATCH_TOKENS = 4_000_000
SCHEMA = pa.schema(
    [
        ("tokens", pa.large_list(pa.uint32())),
        ("source", pa.string()),
        ("id", pa.string()),
        ("bytes", pa.int64()),
    ]
)


@dataclass(frozen=True, kw_only=True)
class Document:
    """Tokens of one document, or of its part from token `start` on."""

    tokens: np.ndarray
    source: str
    id: str
    start: int = 0


class DocumentWriter:
    """Append documents to one Arrow file; bounded memory, and a running hash of everything written."""

    def __init__(self, path: Path) -> None:
        self._sink = pa.OSFile(str(path), "wb")
        self._file = pa.ipc.new_file(self._sink, SCHEMA)
        self._hash = hashlib.sha256()
        self._rows: list[tuple[np.ndarray, str, str, int]] = []
        self._held = 0
        self.documents = 0
        self.tokens = 0

    def add(self, tokens: np.ndarray, *, source: str, id: str, bytes: int) -> None:
        self._rows.append((tokens, source, id, bytes))
        self._hash.update(f"{source}\0{id}\0{len(tokens)}\0".encode())
        self._hash.update(np.ascontiguousarray(tokens, dtype="<u4").tobytes())
        self.documents += 1
        self.tokens += len(tokens)
        self._held += len(tokens)
        if self._held >= BATCH_TOKENS:
            self._flush()

    def close(self) -> str:
        """Finish the file and give the sha256 over its sources, ids and tokens."""
        self._flush()
        self._file.close()
        self._sink.close()
        return self._hash.hexdigest()

    def abandon(self) -> None:
        """Let go of the file, whole or not."""
        with suppress(OSError):
            self._sink.close()

    def _flush(self) -> None:
        if not self._rows:
            return
        tokens, sources, ids, sizes = zip(*self._rows, strict=True)
        offsets = np.concatenate([[0], np.cumsum([len(t) for t in tokens], dtype=np.int64)])
        values = pa.array(np.concatenate(tokens).astype(np.uint32, copy=False))
        column = pa.LargeListArray.from_arrays(pa.array(offsets, pa.int64()), values)
        columns = [
            column,
            pa.array(sources, pa.string()),
            pa.array(ids, pa.string()),
            pa.array(sizes, pa.int64()),
        ]
        self._file.write_batch(pa.RecordBatch.from_arrays(columns, schema=SCHEMA))
        self._rows, self._held = [], 0


class Documents(Sequence[Document]):
    """The documents of one Arrow file, memory-mapped; a slice of tokens touches only its own bytes."""

    def __init__(self, path: Path) -> None:
        if not path.exists():
            raise DataError(f"{path}: must be a prepared file, got none; run prepare")
        try:
            self._table = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
        except pa.ArrowInvalid as error:
            raise DataError(f"{path}: must be a whole Arrow file, got: {error}; prepare it again") from error
        chunks = self._table.column("tokens").chunks
        self._values = [chunk.values.to_numpy() for chunk in chunks]
        self._offsets = [chunk.offsets.to_numpy() for chunk in chunks]
        self._first = np.cumsum([0, *(len(chunk) for chunk in chunks)])

    def __len__(self) -> int:
        return self._table.num_rows

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
        source, name = (self._table.column(column)[row].as_py() for column in ("source", "id"))
        return Document(tokens=self.tokens(row), source=source, id=name)

    def tokens(self, row: int, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Give uint32 tokens [start, stop) of a document, a view of the mapped file."""
        chunk = int(np.searchsorted(self._first, row, side="right")) - 1
        first, last = self._offsets[chunk][row - self._first[chunk] :][:2]
        return self._values[chunk][first + start : last if stop is None else first + stop]

    def lengths(self) -> np.ndarray:
        """Give int64 tokens of every document."""
        return np.concatenate([np.zeros(0, np.int64), *(np.diff(offsets) for offsets in self._offsets)])

    def sources(self) -> np.ndarray:
        """Give the source name of every document."""
        return np.array(self._table.column("source").to_pylist(), dtype=object)

    def ids(self) -> list[str]:
        return self._table.column("id").to_pylist()

    def sizes(self) -> np.ndarray:
        """Give int64 UTF-8 bytes of every document's text."""
        return self._table.column("bytes").to_numpy()


@contextmanager
def whole_or_absent(folder: Path) -> Iterator[Path]:
    """Give a temporary sibling to fill; renamed to `folder` at the end, removed where anything goes wrong."""
    with room_to_write(folder.parent):
        folder.parent.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(folder.parent)
        partial = folder.parent / f".partial-{socket.gethostname()}-{os.getpid()}-{folder.name}"
        partial.mkdir()
        try:
            yield partial
            if folder.exists():
                raise DataError(
                    f"{folder}: must be written by one process, got another's meanwhile; run it again"
                )
            os.rename(partial, folder)
        finally:
            shutil.rmtree(partial, ignore_errors=True)


def _remove_abandoned(parent: Path) -> None:
    """Remove what processes of this machine left that were killed while writing."""
    for path in parent.glob(f".partial-{socket.gethostname()}-*"):
        pid = int(path.name.removeprefix(f".partial-{socket.gethostname()}-").split("-")[0])
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            shutil.rmtree(path, ignore_errors=True)
        except PermissionError:
            continue


def write_manifest(folder: Path, kind: str, fields: dict[str, Any]) -> None:
    content = {"format": FORMAT, "kind": kind, **fields}
    (folder / MANIFEST).write_text(json.dumps(content, indent=1) + "\n", "utf-8")


def read_manifest(folder: Path, kind: str) -> dict[str, Any]:
    """Read a manifest of ours; DataError for a missing one, another format, or another kind."""
    path = folder / MANIFEST
    if not path.exists():
        raise DataError(f"{folder}: must be a prepared {kind}, got no {MANIFEST}; run prepare")
    try:
        fields = json.loads(path.read_text("utf-8"))
    except json.JSONDecodeError as error:
        raise DataError(f"{path}: must be JSON, got: {error}; delete {folder} and prepare again") from error
    if fields.get("format") != FORMAT:
        raise DataError(
            f"{path}: format must be {FORMAT}, got {fields.get('format')!r}; "
            "read it with the version of ropewalk that wrote it, or delete the folder and prepare again"
        )
    if fields.get("kind") != kind:
        raise DataError(f"{path}: must be a {kind}, got {fields.get('kind')!r}; give the {kind}'s folder")
    return fields


def fingerprint(fields: Any) -> str:
    """Give the sha256 over JSON-able values, independent of the order of keys."""
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()


def differences(kept: dict[str, Any], asked: dict[str, Any], prefix: str = "") -> list[str]:
    """Name each field, dotted, in which two nested mappings differ, with both values."""
    found = []
    for key in dict.fromkeys([*kept, *asked]):
        old, new = kept.get(key), asked.get(key)
        if isinstance(old, dict) and isinstance(new, dict):
            found += differences(old, new, f"{prefix}{key}.")
        elif old != new:
            found.append(f"{prefix}{key} ({_short(old)} there, {_short(new)} asked)")
    return found


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 16 else f"{text[:12]}…"


def open_documents(folder: str | Path, split: Literal["train", "heldout"] = "heldout") -> Documents:
    """Open a split of the corpus that a store, a corpus or a plan folder belongs to."""
    folder = Path(folder)
    for corpus in (folder / "corpus", folder, folder.parent.parent / "corpus"):
        if (corpus / f"{split}.arrow").exists():
            read_manifest(corpus, "corpus")
            return Documents(corpus / f"{split}.arrow")
    raise DataError(f"{folder}: must hold a prepared corpus, got none; run prepare")
