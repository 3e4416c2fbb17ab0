"""How is one MDS shard read without the streaming package?

`index.json` (version 2) tells of each shard its columns, their encodings and fixed sizes, and of its raw and
its compressed file the name, bytes and hashes. A shard, little-endian: u32 records n, u32[n + 1] byte
positions of the records, a note of its settings, then the records. A record: u32 size of each column without
a fixed one, then the columns' bytes.
"""

from __future__ import annotations

import bz2
import gzip
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import xxhash

from ..errors import DataError
from .files import TORN, beside, content, size_and_stamp, torn
from .source import Fault, Input

INDEX = "index.json"
HASHES = (hashlib, xxhash)
WIDTHS = {0: "<u1", 1: "<u2", 2: "<u4", 3: "<u8"}
"""Of an array's shape, by the low bits of its first byte."""
DTYPES = {8: "uint8", 9: "int8", 16: "uint16", 17: "int16", 18: "float16", 32: "uint32", 33: "int32",
          34: "float32", 64: "uint64", 65: "int64", 66: "float64"}  # fmt: skip
"""Of an array's values, where the column does not fix them."""


@dataclass(frozen=True, kw_only=True)
class Column:
    """One column, its encoding, and its bytes where they are fixed."""

    name: str
    encoding: str
    size: int | None


@dataclass(frozen=True, kw_only=True)
class Stored:
    """One file of a shard."""

    name: str
    bytes: int
    hashes: dict[str, str]


@dataclass(frozen=True, kw_only=True)
class Shard:
    """One shard; `first` is the number of its first record in the index."""

    input: Input
    first: int
    records: int
    columns: tuple[Column, ...]
    raw: Stored
    packed: Stored | None
    codec: str | None

    @property
    def url(self) -> str:
        return beside(self.input.url, self.raw.name)

    @property
    def file(self) -> str:
        """The file that is read: the raw one where it is there."""
        if self.packed is None or size_and_stamp(self.url) is not None:
            return self.url
        return beside(self.input.url, self.packed.name)

    @property
    def stored(self) -> int:
        return (self.packed or self.raw).bytes

    @property
    def encodings(self) -> dict[str, str]:
        """How each column is written."""
        return {column.name: column.encoding for column in self.columns}

    def read(self) -> Iterator[tuple[int, dict[str, np.ndarray]]]:
        """Give each record's number and the bytes of its columns; a torn shard is a DataError."""
        data = self._content()
        head = data[:4].view("<u4") if len(data) >= 4 else np.zeros(1, "<u4")
        edges = data[4 : 8 + 4 * self.records]
        if int(head[0]) != self.records or len(edges) != 4 * (self.records + 1):
            raise self._torn(f"{int(head[0]):,} records")
        edges = edges.view("<u4").astype(np.int64)
        if (np.diff(edges) < 0).any() or edges[0] < 8 + 4 * self.records or edges[-1] != len(data):
            raise self._torn(f"records that end at byte {edges[-1]:,} of {len(data):,}")
        for row in range(self.records):
            yield self.first + row, self._columns(data[edges[row] : edges[row + 1]], row)

    def _columns(self, data: np.ndarray, row: int) -> dict[str, np.ndarray]:
        open_sizes = sum(not column.size for column in self.columns)
        sizes = iter(data[: 4 * open_sizes].tobytes()[i : i + 4] for i in range(0, 4 * open_sizes, 4))
        at = 4 * open_sizes
        values: dict[str, np.ndarray] = {}
        for column in self.columns:
            size = column.size or int.from_bytes(next(sizes), "little")
            values[column.name] = data[at : at + size]
            at += size
        if at != len(data):
            raise self._torn(f"record {self.first + row} of {len(data):,} bytes, whose columns need {at:,}")
        return values

    def _content(self) -> np.ndarray:
        """Give the uncompressed bytes, checked against size and hashes."""
        if self.packed is None or self.file == self.url:
            return self._checked(self.raw, content(self.url))
        packed = self._checked(self.packed, content(self.file))
        try:
            data = _unpacked(packed, self.codec)
        except (*TORN, ValueError) as error:
            raise torn(self.file, self.codec, error, 0) from error
        if data is None:
            raise DataError(
                f"{self.input.url}: must be packed by zstd, gz or bz2, got {self.codec}; unpack the shards"
            )
        return self._checked(self.raw, np.frombuffer(data, np.uint8))

    def _checked(self, stored: Stored, data: np.ndarray) -> np.ndarray:
        if len(data) != stored.bytes:
            raise self._torn(f"{stored.name} of {len(data):,} bytes instead of {stored.bytes:,}")
        for algorithm, wanted in stored.hashes.items():
            new = next(
                (getattr(lib, algorithm, None) for lib in HASHES if algorithm in lib.algorithms_available),
                None,
            )
            if new is None:
                raise DataError(
                    f"{self.input.url}: hashes must be of a known kind, got {algorithm}; remove them there"
                )
            if new(data).hexdigest() != wanted:
                raise self._torn(f"another {algorithm} of {stored.name} than {wanted[:12]}..")
        return data

    def _torn(self, got: str) -> DataError:
        return DataError(
            f"{self.url}: must be the whole shard of {self.records:,} records that {INDEX} tells of, got "
            f"{got}; fetch it again"
        )


def read_index(input: Input) -> list[Shard]:
    """Read the shards that an `index.json` tells of, in order."""
    try:
        index = json.loads(content(input.url).tobytes())
        if index["version"] != 2 or any(entry["format"] != "mds" for entry in index["shards"]):
            raise DataError(
                f"{input.url}: must be version 2 of format mds, got version {index['version']}, "
                f"{sorted({entry['format'] for entry in index['shards']})}; write it anew"
            )
        return list(_shards(input, index["shards"]))
    except DataError:
        raise
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{input.url}: must be the index of MDS shards, got {error!r}; fetch it again"
        ) from error


def decoded_array(data: np.ndarray, encoding: str, place: str) -> np.ndarray:
    """Decode `ndarray[:DTYPE[:SHAPE]]`: what is not fixed stands before the values."""
    fixed = encoding.split(":")[1:]
    at = 0
    try:
        if not fixed:
            fixed, at = [DTYPES[int(data[0])]], 1
        if len(fixed) > 1:
            shape = [int(size) for size in fixed[1].split(",")]
        else:
            head = int(data[at])
            stop = at + 1 + (head >> 2) * np.dtype(WIDTHS[head & 3]).itemsize
            shape = data[at + 1 : stop].view(WIDTHS[head & 3]).tolist()
            at = stop
        values = data[at:].view(np.dtype(fixed[0]).newbyteorder("<"))
        if values.dtype.kind not in "iu":
            raise ValueError(f"{fixed[0]} values")
        return values.reshape(shape)
    except (ValueError, KeyError, IndexError, TypeError) as error:
        raise Fault(
            "bad_array", place=place, must=f"must hold an {encoding} of integers", got=str(error),
            cure="write it anew",
        ) from error  # fmt: skip


def _shards(input: Input, entries: list[dict[str, Any]]) -> Iterator[Shard]:
    first = 0
    for entry in entries:
        columns = zip(entry["column_names"], entry["column_encodings"], entry["column_sizes"], strict=True)
        packed = entry["zip_data"]
        yield Shard(
            input=input,
            first=first,
            records=entry["samples"],
            columns=tuple(Column(name=name, encoding=how, size=size) for name, how, size in columns),
            raw=_stored(entry["raw_data"]),
            packed=_stored(packed) if packed else None,
            codec=entry["compression"],
        )
        first += entry["samples"]


def _stored(entry: dict[str, Any]) -> Stored:
    return Stored(name=entry["basename"], bytes=entry["bytes"], hashes=entry["hashes"])


def _unpacked(data: np.ndarray, codec: str | None) -> bytes | None:
    name = (codec or "").split(":")[0]
    if name in ("zstd", "zst"):
        return pa.CompressedInputStream(pa.BufferReader(data.tobytes()), "zstd").read()
    if name in ("gz", "bz2"):
        return (gzip if name == "gz" else bz2).decompress(data.tobytes())
    return None
