"""Readers of sources in one line, the contract that all keep, and writers of the token stores people have."""

import hashlib
import json
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from ropewalk.data.sources import SECTIONS, open_reader
from ropewalk.data.sources.source import Raw, Reader

SIZES = (1, 40, 1000, 10**9)


def reader(kind: str, *paths: str | Path, **fields: Any) -> Reader:
    source = SECTIONS[kind].model_validate({"paths": [str(path) for path in paths], **fields})
    return open_reader(source, where="data.sources.s")


def read(source: Reader, size: int = 10**9) -> list[Raw]:
    """Read everything, cut into units of a size."""
    return [raw for unit in source.units(source.inputs(), size) for raw in source.read(unit)]


def said(raw: Raw) -> str | list[int] | None:
    """Give what a document holds in values that compare."""
    return "".join(raw.text) if raw.text is not None else None if raw.tokens is None else raw.tokens.tolist()


def facts(raw: Raw) -> tuple[Any, ...]:
    return raw.id, raw.start, raw.stop, raw.input, raw.fault, said(raw)


def check(source: Reader, expected: Sequence[Any], sizes: Sequence[int] = SIZES) -> list[Raw]:
    """Hold a reader to what all promise: everything once, in order, however it is cut; a skip is a tail."""
    whole = read(source)
    assert [said(raw) for raw in whole] == list(expected)
    assert len({raw.id for raw in whole}) == len(whole)
    for size in sizes:
        units = source.units(source.inputs(), size)
        parts = [[facts(raw) for raw in source.read(unit)] for unit in units]
        assert [raw for part in parts for raw in part] == [facts(raw) for raw in whole]
        for unit, part in zip(units, parts, strict=True):
            for skip in {0, 1, len(part) // 2, len(part), len(part) + 1}:
                assert [facts(raw) for raw in source.read(unit, skip)] == part[skip:]
    return whole


def array(values: np.ndarray, *, typed: bool) -> bytes:
    """Write an array as an MDS column of `ndarray` (typed) or `ndarray:DTYPE` does."""
    codes = {"uint8": 8, "uint16": 16, "uint32": 32, "int32": 33, "float32": 34, "int64": 65}
    width = 0 if max(values.shape) < 256 else 1
    head = bytes([codes[values.dtype.name]]) if typed else b""
    shape = np.array(values.shape, ("u1", "<u2")[width]).tobytes()
    return head + bytes([values.ndim << 2 | width]) + shape + values.tobytes()


def write_mds(
    folder: Path,
    records: Sequence[dict[str, bytes]],
    encodings: dict[str, str],
    *,
    per_shard: int = 2,
    codec: str | None = None,
    below: str = "",
) -> None:
    """Write records of encoded columns as MDS shards with sha1 hashes."""
    shards = []
    for number, at in enumerate(range(0, len(records), per_shard)):
        rows = []
        for record in records[at : at + per_shard]:
            values = [record[name] for name in sorted(encodings)]
            rows.append(b"".join(struct.pack("<I", len(value)) for value in values) + b"".join(values))
        note = b'{"a": "note"}'
        ends = np.cumsum([8 + 4 * len(rows) + len(note), *map(len, rows)]).astype("<u4")
        raw = struct.pack("<I", len(rows)) + ends.tobytes() + note + b"".join(rows)
        name = f"{below}shard.{number:05}.mds"
        files = {
            "raw_data": (name, raw),
            "zip_data": (f"{name}.zstd", pa.Codec("zstd").compress(raw).to_pybytes()),
        }
        for kept, content in [files["zip_data" if codec else "raw_data"]]:
            (folder / kept).parent.mkdir(parents=True, exist_ok=True)
            (folder / kept).write_bytes(content)
        told = {
            key: {
                "basename": kept,
                "bytes": len(content),
                "hashes": {"sha1": hashlib.sha1(content).hexdigest()},
            }
            for key, (kept, content) in files.items()
        }
        shards.append(
            {
                "version": 2, "format": "mds", "samples": len(rows), "compression": codec, "hashes": ["sha1"],
                "size_limit": None, "column_names": sorted(encodings),
                "column_sizes": [None] * len(encodings),
                "column_encodings": [encodings[name] for name in sorted(encodings)],
                "raw_data": told["raw_data"], "zip_data": told["zip_data"] if codec else None,
            }
        )  # fmt: skip
    (folder / "index.json").write_text(json.dumps({"version": 2, "shards": shards}))


def write_megatron(prefix: Path, documents: Sequence[Sequence[np.ndarray]], code: int, dtype: str) -> None:
    """Write documents of sequences as `.bin` and `.idx`."""
    sequences = [sequence.astype(dtype) for document in documents for sequence in document]
    prefix.parent.mkdir(parents=True, exist_ok=True)
    prefix.with_suffix(".bin").write_bytes(b"".join(sequence.tobytes() for sequence in sequences))
    sizes = [sequence.nbytes for sequence in sequences]
    borders = np.cumsum([0, *map(len, documents)])
    prefix.with_suffix(".idx").write_bytes(
        b"MMIDIDX\x00\x00"
        + struct.pack("<QBQQ", 1, code, len(sequences), len(borders))
        + np.array([len(sequence) for sequence in sequences], "<i4").tobytes()
        + (np.cumsum([0, *sizes])[:-1]).astype("<i8").tobytes()
        + borders.astype("<i8").tobytes()
    )


def write_datatrove(path: Path, documents: Sequence[np.ndarray], dtype: str, told: str | None = None) -> None:
    """Write documents as `.ds` and `.ds.index`, with the first line of `.ds.metadata` where it is given."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join(document.astype(dtype).tobytes() for document in documents))
    Path(f"{path}.index").write_bytes(
        np.cumsum([len(document) for document in documents]).astype("<u8").tobytes()
    )
    if told is not None:
        Path(f"{path}.metadata").write_text(f"{told}\n12\n12 T")
