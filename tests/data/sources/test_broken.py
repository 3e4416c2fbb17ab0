"""Broken input of every kind: the message names the file, the place in it, the value and a cure."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from world.stores import array, read, reader, write_datatrove, write_mds, write_megatron

from ropewalk.data import DataError

Write = Callable[[Path], object]
GOOD = '{"text": "good"}\n'


def line(content: bytes) -> Write:
    return lambda folder: (folder / "a.jsonl").write_bytes(GOOD.encode() + content + b"\n" + GOOD.encode())


DOCUMENTS: dict[str, tuple[str, Write, dict[str, Any], str, tuple[str, ...]]] = {
    "latin text": (
        "files",
        lambda f: (f / "a.py").write_bytes(b"caf\xe9"),
        {},
        "not_utf8",
        ("a.py", "0xe9 at 3"),
    ),
    "cut text": (
        "files",
        lambda f: (f / "a.py").write_bytes(b"ab\xe6\xbc"),
        {},
        "not_utf8",
        ("a.py", "0xe6 at 2"),
    ),
    "no JSON": ("jsonl", line(b"{nothing"), {}, "not_json", ("a.jsonl, line 2", "{nothing", "mend")),
    "no object": ("jsonl", line(b"[1]"), {}, "not_json", ("a.jsonl, line 2", "list", "mend")),
    "no field": ("jsonl", line(b'{"body": 1}'), {}, "missing_field", ("line 2", "text", "body", "name")),
    "no nested field": (
        "jsonl",
        line(b'{"a": 1}'),
        {"text": "a.b"},
        "missing_field",
        ("line 1", "a.b", "text"),
    ),
    "null": ("jsonl", line(b'{"text": null}'), {}, "null", ("line 2", "null", "filter")),
    "number": ("jsonl", line(b'{"text": 5}'), {}, "not_text", ("line 2", "int", "field of text")),
    "latin line": ("jsonl", line(b'{"text": "\xe9"}'), {}, "not_utf8", ("line 2", "0xe9 at 10", "convert")),
    "surrogate": (
        "jsonl",
        line(b'{"text": "a\\ud800"}'),
        {},
        "surrogates",
        ("line 2", "\\ud800", "character 1"),
    ),
    "no id": (
        "jsonl",
        line(b'{"text": "", "id": 1}'),
        {"id": "id"},
        "missing_field",
        ("line 1", "id", "text"),
    ),
    "null id": (
        "jsonl",
        line(b'{"text": "", "i": {"j": null}}'),
        {"id": "i"},
        "missing_field",
        ("line 1", "i"),
    ),
    "null row": (
        "parquet",
        lambda f: pq.write_table(pa.table({"text": [None, "b"]}), f / "a.parquet"),
        {},
        "null",
        ("a.parquet, row 0", "null", "filter"),
    ),
    "float id": (
        "parquet",
        lambda f: pq.write_table(pa.table({"text": ["b"], "i": [1.5]}), f / "a.parquet"),
        {"id": "i"},
        "no_id",
        ("a.parquet, row 0", "1.5", "name another"),
    ),
    "negative token": (
        "megatron",
        lambda f: write_megatron(f / "w", [[np.array([1, -7])]], 4, "<i4"),
        {},
        "bad_token",
        ("w.bin, document 0", "-7", "anew"),
    ),
    "array of floats": (
        "mds",
        lambda f: mds(f, array(np.ones(3, np.float32), typed=True)),
        {},
        "bad_array",
        ("record 0", "float32"),
    ),
    "spans of one column": (
        "mds",
        lambda f: mds(f, spans=np.array([1, 2], np.uint32)),
        {},
        "bad_spans",
        ("record 0", "[1, 2]", "null"),
    ),
    "spans out of order": (
        "mds",
        lambda f: mds(f, spans=np.array([[1, 2], [0, 1]], np.uint32)),
        {},
        "bad_spans",
        ("record 0", "[0, 1]"),
    ),
}


def mds(folder: Path, ids: bytes | None = None, spans: np.ndarray | None = None, **fields: Any) -> Path:
    ids = array(np.arange(3, dtype=np.uint32), typed=True) if ids is None else ids
    spans = np.array([[0, 3]], np.uint32) if spans is None else spans
    record = {"input_ids": ids, "indices": array(spans, typed=True)}
    encodings = {"input_ids": "ndarray", "indices": "ndarray"} | fields
    write_mds(folder, [record] * 3, encodings)
    return folder


def fields_of(kind: str) -> dict[str, str]:
    return {"tokenizer": "t"} if kind in ("mds", "megatron", "datatrove") else {}


@pytest.mark.parametrize("case", DOCUMENTS)
def test_a_broken_document_is_named_or_counted(case: str, tmp_path: Path):
    kind, write, fields, reason, parts = DOCUMENTS[case]
    write(tmp_path)
    with pytest.raises(DataError) as caught:
        read(reader(kind, tmp_path, **fields, **fields_of(kind)))
    assert all(part in str(caught.value) for part in (*parts, "data.sources.s.on_error: skip"))
    raws = read(reader(kind, tmp_path, on_error="skip", **fields, **fields_of(kind)))
    assert reason in [raw.fault for raw in raws]
    assert all(raw.text is None and raw.tokens is None for raw in raws if raw.fault)


def changed(name: str, change: Callable[[bytes], bytes], write: Write) -> Write:
    def run(folder: Path) -> None:
        write(folder)
        (folder / name).write_bytes(change((folder / name).read_bytes()))

    return run


def told(change: Callable[[dict[str, Any]], object]) -> Callable[[bytes], bytes]:
    """Change the `index.json` of MDS shards."""

    def run(content: bytes) -> bytes:
        index = json.loads(content)
        change(index)
        return json.dumps(index).encode()

    return run


def megatron(folder: Path) -> None:
    write_megatron(folder / "w", [[np.arange(9)], [np.arange(4)]], 4, "<i4")


def datatrove(folder: Path) -> None:
    write_datatrove(folder / "0.ds", [np.arange(9), np.arange(4)], "<u2", "gpt2|2")


def parquet(folder: Path) -> None:
    pq.write_table(pa.table({"text": ["a"], "n": [1]}), folder / "a.parquet")


def packed(folder: Path) -> None:
    (folder / "a.jsonl.gz").write_bytes(gzip.compress(GOOD.encode() * 9))


SHARD = "shard.00001.mds"
FILES: dict[str, tuple[str, Write, dict[str, Any], tuple[str, ...]]] = {
    "torn gzip": (
        "jsonl",
        changed("a.jsonl.gz", lambda b: b[:-5], packed),
        {},
        ("a.jsonl.gz", "Truncated", "fetch"),
    ),
    "no gzip": (
        "jsonl",
        changed("a.jsonl.gz", lambda b: GOOD.encode(), packed),
        {},
        ("a.jsonl.gz", "gzip", "fetch"),
    ),
    "changed gzip": (
        "jsonl",
        changed("a.jsonl.gz", lambda b: b[:-8] + b"12345678", packed),
        {},
        ("a.jsonl.gz", "after", "fetch"),
    ),
    "torn Parquet": (
        "parquet",
        changed("a.parquet", lambda b: b[:-9], parquet),
        {},
        ("a.parquet", "whole", "fetch"),
    ),
    "no column": ("parquet", parquet, {"text": "body"}, ("a.parquet", "body", "s.text", "text, n", "name")),
    "no id column": ("parquet", parquet, {"id": "key"}, ("a.parquet", "key", "s.id", "text, n", "name")),
    "column of numbers": ("parquet", parquet, {"text": "n"}, ("a.parquet", "s.text", "int64", "another")),
    "torn shard": ("mds", changed(SHARD, lambda b: b[:-1], mds), {}, (SHARD, "bytes instead of", "fetch")),
    "changed shard": (
        "mds",
        changed(SHARD, lambda b: b[:-1] + b"x", mds),
        {},
        (SHARD, "sha1", "fetch"),
    ),
    "shard of other records": (
        "mds",
        changed("index.json", told(lambda i: i["shards"][1].update(samples=2)), mds),
        {},
        (SHARD, "1 records", "fetch"),
    ),
    "index of version 1": (
        "mds",
        changed("index.json", told(lambda i: i.update(version=1)), mds),
        {},
        ("index.json", "version 1", "anew"),
    ),
    "no index": ("mds", changed("index.json", lambda b: b"[]", mds), {}, ("index.json", "fetch")),
    "unknown hash": (
        "mds",
        changed("index.json", told(lambda i: i["shards"][0]["raw_data"].update(hashes={"crc": "1"})), mds),
        {},
        ("index.json", "crc", "remove"),
    ),
    "no such column": ("mds", mds, {"tokens": "ids"}, ("s.tokens", "ids", "indices, input_ids", "name")),
    "no spans": ("mds", mds, {"spans": "cuts"}, ("s.spans", "cuts", "or null")),
    "column of text": ("mds", lambda f: mds(f, input_ids="str"), {}, ("input_ids", "str", "name another")),
    "column of bytes": ("mds", lambda f: mds(f, input_ids="bytes"), {}, ("input_ids", "bytes", "s.dtype")),
    "column of floats": (
        "mds",
        lambda f: mds(f, input_ids="ndarray:float32"),
        {},
        ("input_ids", "ndarray:float32"),
    ),
    "torn bin": (
        "megatron",
        changed("w.bin", lambda b: b[:-1], megatron),
        {},
        ("w.bin", "52", "51", "fetch"),
    ),
    "torn idx": (
        "megatron",
        changed("w.idx", lambda b: b[:-1], megatron),
        {},
        ("w.idx", "82", "81", "fetch"),
    ),
    "no idx": ("megatron", changed("w.idx", lambda b: b"x" * 50, megatron), {}, ("w.idx", "xxx", "anew")),
    "dtype of floats": (
        "megatron",
        changed("w.idx", lambda b: b[:17] + b"\x07" + b[18:], megatron),
        {},
        ("w.idx", "7", "f4"),
    ),
    "unknown dtype": (
        "megatron",
        changed("w.idx", lambda b: b[:17] + b"\x2a" + b[18:], megatron),
        {},
        ("w.idx", "42", "unknown"),
    ),
    "borders elsewhere": (
        "megatron",
        changed("w.idx", lambda b: b[:-8] + b"\x05" + b[-7:], megatron),
        {},
        ("w.idx", "[5]", "anew"),
    ),
    "no bin": (
        "megatron",
        lambda f: (megatron(f), (f / "w.bin").unlink()),
        {},
        ("w.bin", "no such", "fetch"),
    ),
    "torn ds": ("datatrove", changed("0.ds", lambda b: b[:-1], datatrove), {}, ("0.ds", "26", "25", "fetch")),
    "torn index": (
        "datatrove",
        changed("0.ds.index", lambda b: b[:-1], datatrove),
        {},
        ("0.ds.index", "15", "fetch"),
    ),
    "ends out of order": (
        "datatrove",
        changed("0.ds.index", lambda b: b"\x0e" + b[1:], datatrove),
        {},
        ("0.ds.index", "document 1", "28"),
    ),
    "odd tokens": (
        "datatrove",
        changed("0.ds.metadata", lambda b: b"gpt2|3", datatrove),
        {},
        ("0.ds", "2 or 4 bytes", "fetch"),
    ),
    "no ds.index": (
        "datatrove",
        lambda f: (datatrove(f), (f / "0.ds.index").unlink()),
        {},
        ("0.ds.index", "no such", "save_index"),
    ),
}


@pytest.mark.parametrize("on_error", ["raise", "skip"])
@pytest.mark.parametrize("case", FILES)
def test_a_broken_file_stops_whatever_is_skipped(case: str, on_error: str, tmp_path: Path):
    kind, write, fields, parts = FILES[case]
    write(tmp_path)
    with pytest.raises(DataError) as caught:
        read(reader(kind, tmp_path, on_error=on_error, **fields, **fields_of(kind)))
    assert all(part in str(caught.value) for part in parts)
