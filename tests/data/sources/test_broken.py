"""Broken input of every kind: the message names the file, the place in it, the value and a cure."""

import gzip
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from world.stores import array, read, reader, write_datatrove, write_mds, write_megatron

from ropewalk.data import DataError

Write = Callable[[Path], object]
GOOD = b'{"text": "good"}\n'
SHARD = "shard.00001.mds"


def text(content: bytes) -> Write:
    return lambda folder: (folder / "a.py").write_bytes(content)


def line(content: bytes) -> Write:
    return lambda folder: (folder / "a.jsonl").write_bytes(GOOD + content + b"\n" + GOOD)


def packed(folder: Path) -> None:
    (folder / "a.jsonl.gz").write_bytes(gzip.compress(GOOD * 9))


def zstd(window: int) -> Write:
    """Write a frame that looks back 2**window bytes, or in all of a content of 2**30."""
    size = bytes([(window - 10) << 3]) if window else (1 << 30).to_bytes(4, "little")
    head = b"\x28\xb5\x2f\xfd" + (b"\x00" if window else b"\xa0") + size
    block = (1 | len(GOOD) << 3).to_bytes(3, "little") + GOOD
    return lambda folder: (folder / "a.jsonl.zst").write_bytes(head + block)


def parquet(folder: Path, **columns: list[Any]) -> None:
    pq.write_table(pa.table(columns or {"text": ["a"], "n": [1]}), folder / "a.parquet")


def mds(folder: Path, ids: np.ndarray | None = None, spans: list[Any] | None = None, **kinds: str) -> None:
    ids = np.arange(3, dtype=np.uint32) if ids is None else ids
    edges = np.array(spans or [[0, 3]], np.uint32)
    record = {"input_ids": array(ids, typed=True), "indices": array(edges, typed=True)}
    write_mds(folder, [record] * 3, {"input_ids": "ndarray", "indices": "ndarray"} | kinds)


def megatron(folder: Path, *documents: list[int]) -> None:
    given = [np.array(document) for document in documents] or [np.arange(9), np.arange(4)]
    write_megatron(folder / "w", [[document] for document in given], 4, "<i4")


def datatrove(folder: Path) -> None:
    write_datatrove(folder / "0.ds", [np.arange(9), np.arange(4)], "<u2", "gpt2|2")


def changed(write: Write, name: str, change: Callable[[bytes], bytes | None]) -> Write:
    """Change the bytes of a file that was written, or remove it."""

    def run(folder: Path) -> None:
        write(folder)
        content = change((folder / name).read_bytes())
        (folder / name).unlink()
        if content is not None:
            (folder / name).write_bytes(content)

    return run


def index(change: Callable[[dict[str, Any]], object]) -> Write:
    """Change the `index.json` of MDS shards."""

    def changed_index(content: bytes) -> bytes:
        fields = json.loads(content)
        change(fields)
        return json.dumps(fields).encode()

    return changed(mds, "index.json", changed_index)


def put(at: int, byte: int) -> Callable[[bytes], bytes]:
    def changed_byte(content: bytes) -> bytes:
        changing = bytearray(content)
        changing[at] = byte
        return bytes(changing)

    return changed_byte


def cut(size: int) -> Callable[[bytes], bytes]:
    return lambda content: content[:-size]


def gone(_: bytes) -> None:
    return None


ROW, FLOATS = partial(parquet, text=[None, "b"]), np.ones(3, np.float32)
NEGATIVE: Write = lambda folder: megatron(folder, [1, -7])  # noqa: E731
IDS = partial(parquet, text=["b"], i=[1.5])
# kind, reason under which a document is counted (none: the file stops whatever is skipped), how it is
# written, the source's keys, words of the message
CASES: dict[str, tuple[str, str | None, Write, dict[str, str], str]] = {
    "latin text": ("files", "not_utf8", text(b"caf\xe9"), {}, "a.py|0xe9 at 3"),
    "cut text": ("files", "not_utf8", text(b"ab\xe6\xbc"), {}, "a.py|0xe6 at 2"),
    "no JSON": ("jsonl", "not_json", line(b"{nothing"), {}, "a.jsonl, line 2|{nothing|mend"),
    "no object": ("jsonl", "not_json", line(b"[1]"), {}, "a.jsonl, line 2|list|mend"),
    "no field": ("jsonl", "missing_field", line(b'{"body": 1}'), {}, "line 2|text|body|name"),
    "no nested field": ("jsonl", "missing_field", line(b"{}"), {"text": "a.b"}, "line 1|a.b|text"),
    "null": ("jsonl", "null", line(b'{"text": null}'), {}, "line 2|null|filter"),
    "number": ("jsonl", "not_text", line(b'{"text": 5}'), {}, "line 2|int|field of text"),
    "latin line": ("jsonl", "not_utf8", line(b'{"text": "\xe9"}'), {}, "line 2|0xe9 at 10|convert"),
    "surrogate": ("jsonl", "surrogates", line(b'{"text": "a\\ud800"}'), {}, "line 2|\\ud800|character 1"),
    "no id": ("jsonl", "missing_field", line(b"{}"), {"id": "id"}, "line 1|id|text"),
    "null row": ("parquet", "null", ROW, {}, "a.parquet, row 0|null|filter"),
    "float id": ("parquet", "no_id", IDS, {"id": "i"}, "a.parquet, row 0|1.5|name another"),
    "negative token": ("megatron", "bad_token", NEGATIVE, {}, "w.bin, document 0|-7|anew"),
    "array of floats": ("mds", "bad_array", partial(mds, ids=FLOATS), {}, "record 0|float32"),
    "spans of one column": ("mds", "bad_spans", partial(mds, spans=[1, 2]), {}, "record 0|[1, 2]|empty"),
    "spans out of order": ("mds", "bad_spans", partial(mds, spans=[[1, 2], [0, 1]]), {}, "record 0|[0, 1]"),
    "torn gzip": ("jsonl", None, changed(packed, "a.jsonl.gz", cut(5)), {}, "a.jsonl.gz|ended|fetch"),
    "no gzip": ("jsonl", None, changed(packed, "a.jsonl.gz", lambda _: GOOD), {}, "a.jsonl.gz|gzip|fetch"),
    "empty gzip": ("jsonl", None, changed(packed, "a.jsonl.gz", cut(10**6)), {}, "a.jsonl.gz|no bytes|fetch"),
    "wide zstd": ("jsonl", None, zstd(31), {}, "a.jsonl.zst|2,147,483,648|134,217,728|--long=31"),
    "wide zstd of known size": ("jsonl", None, zstd(0), {}, "a.jsonl.zst|got a window of 1,073,741,824|pack"),
    "changed gzip": ("jsonl", None, changed(packed, "a.jsonl.gz", put(-8, 1)), {}, "a.jsonl.gz|after|fetch"),
    "torn Parquet": ("parquet", None, changed(parquet, "a.parquet", cut(9)), {}, "a.parquet|whole|fetch"),
    "no column": ("parquet", None, parquet, {"text": "body"}, "a.parquet|body|s.text|text, n|name"),
    "no id column": ("parquet", None, parquet, {"id": "key"}, "a.parquet|key|s.id|text, n|name"),
    "column of numbers": ("parquet", None, parquet, {"text": "n"}, "a.parquet|s.text|int64|another"),
    "torn shard": ("mds", None, changed(mds, SHARD, cut(1)), {}, f"{SHARD}|bytes instead of|fetch"),
    "changed shard": ("mds", None, changed(mds, SHARD, put(-1, 120)), {}, f"{SHARD}|sha1|fetch"),
    "shard of other records": (
        "mds", None, index(lambda i: i["shards"][1].update(samples=2)), {}, f"{SHARD}|1 records|fetch",
    ),
    "index of version 1": ("mds", None, index(lambda i: i.update(version=1)), {}, "index|version 1|anew"),
    "no index": ("mds", None, changed(mds, "index.json", lambda _: b"[]"), {}, "index.json|fetch"),
    "unknown hash": (
        "mds", None, index(lambda i: i["shards"][0]["raw_data"].update(hashes={"crc": "1"})), {},
        "index.json|crc|remove",
    ),
    "no such column": ("mds", None, mds, {"tokens": "ids"}, "s.tokens|ids|indices, input_ids|name"),
    "no spans": ("mds", None, mds, {"spans": "cuts"}, "s.spans|cuts|or empty"),
    "column of text": ("mds", None, partial(mds, input_ids="str"), {}, "input_ids|str|name another"),
    "column of bytes": ("mds", None, partial(mds, input_ids="bytes"), {}, "input_ids|bytes|s.dtype"),
    "column of floats": ("mds", None, partial(mds, input_ids="ndarray:float32"), {}, "ids|ndarray:float32"),
    "torn bin": ("megatron", None, changed(megatron, "w.bin", cut(1)), {}, "w.bin|52|51|fetch"),
    "torn idx": ("megatron", None, changed(megatron, "w.idx", cut(1)), {}, "w.idx|82|81|fetch"),
    "no idx": ("megatron", None, changed(megatron, "w.idx", lambda _: b"x" * 50), {}, "w.idx|xxx|anew"),
    "dtype of floats": ("megatron", None, changed(megatron, "w.idx", put(17, 7)), {}, "w.idx|7|f4"),
    "unknown dtype": ("megatron", None, changed(megatron, "w.idx", put(17, 42)), {}, "w.idx|42|unknown"),
    "borders elsewhere": ("megatron", None, changed(megatron, "w.idx", put(-8, 5)), {}, "w.idx|[5]|anew"),
    "no bin": ("megatron", None, changed(megatron, "w.bin", gone), {}, "w.bin|no such|fetch"),
    "torn ds": ("datatrove", None, changed(datatrove, "0.ds", cut(1)), {}, "0.ds|26|25|fetch"),
    "torn index": ("datatrove", None, changed(datatrove, "0.ds.index", cut(1)), {}, "0.ds.index|15|fetch"),
    "ends out of order": (
        "datatrove", None, changed(datatrove, "0.ds.index", put(0, 14)), {}, "0.ds.index|document 1|28",
    ),
    "odd tokens": (
        "datatrove", None, changed(datatrove, "0.ds.metadata", lambda _: b"gpt2|3"), {}, "0.ds|2 or 4|fetch",
    ),
    "no ds.index": (
        "datatrove", None, changed(datatrove, "0.ds.index", gone), {}, "0.ds.index|no such|save_index",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_what_is_broken_is_named_and_only_documents_are_skipped(case: str, tmp_path: Path):
    kind, reason, write, fields, words = CASES[case]
    write(tmp_path)
    fields = fields | ({"tokenizer": "t"} if kind in ("mds", "megatron", "datatrove") else {})
    with pytest.raises(DataError) as caught:
        read(reader(kind, tmp_path, **fields))
    cure = ["data.sources.s.on_error: skip"] if reason else []
    assert not [word for word in [*words.split("|"), *cure] if word not in str(caught.value)]
    if reason is None:
        with pytest.raises(DataError):
            read(reader(kind, tmp_path, on_error="skip", **fields))
    else:
        raws = read(reader(kind, tmp_path, on_error="skip", **fields))
        assert reason in [raw.fault for raw in raws]
        assert all(raw.text is None and raw.tokens is None for raw in raws if raw.fault)
