"""Token stores give the documents that were written, as uint32, however they are cut."""

from pathlib import Path

import fsspec
import numpy as np
import pytest
from world.stores import array, check, read, reader, write_datatrove, write_mds, write_megatron

from ropewalk.data.sources.source import Reader

GENERATOR = np.random.default_rng(0)
DOCUMENTS = [GENERATOR.integers(0, 60_000, size) for size in (3, 1, 300, 40, 2, 700, 1, 5, 20)]
EXPECTED = [document.tolist() for document in DOCUMENTS]
ENCODINGS = {"input_ids": "ndarray:uint32", "indices": "ndarray", "domain": "str"}


def records(typed: bool = False) -> list[dict[str, bytes]]:
    """Give records of three documents each, as ProLong's are."""
    found = []
    for at in range(0, len(DOCUMENTS), 3):
        ends = np.cumsum([0, *map(len, DOCUMENTS[at : at + 3])]).astype(np.uint32)
        ids = np.concatenate(DOCUMENTS[at : at + 3]).astype(np.uint32)
        spans = np.stack([ends[:-1], ends[1:]], axis=1)
        found.append(
            {"domain": b"book", "input_ids": array(ids, typed=typed), "indices": array(spans, typed=True)}
        )
    return found


def joined(documents: list[list[int]]) -> list[int]:
    return [token for document in documents for token in document]


def tokens(kind: str, path: Path | str, **fields: object) -> Reader:
    return reader(kind, path, tokenizer="t", **fields)


@pytest.mark.parametrize("codec", [None, "zstd:3"])
def test_mds_records_hold_documents(tmp_path: Path, codec: str | None):
    write_mds(tmp_path / "m", records(), ENCODINGS, codec=codec)
    raws = check(tokens("mds", tmp_path / "m"), EXPECTED)
    assert [raw.id for raw in raws[2:5]] == ["m:0:2", "m:1:0", "m:1:1"]
    assert len(tokens("mds", tmp_path / "m").units(tokens("mds", tmp_path).inputs(), 1)) == 2
    whole = [joined(EXPECTED[at : at + 3]) for at in range(0, 9, 3)]
    check(tokens("mds", tmp_path / "m", spans=None), whole)


def test_mds_arrays_may_tell_their_dtype_and_bytes_may_not(tmp_path: Path):
    write_mds(tmp_path / "m", records(typed=True), ENCODINGS | {"input_ids": "ndarray"})
    check(tokens("mds", tmp_path / "m" / "index.json"), EXPECTED)
    plain = [{"tokens": document.astype("<i8").tobytes()} for document in DOCUMENTS]
    write_mds(tmp_path / "b", plain, {"tokens": "bytes"})
    check(tokens("mds", tmp_path / "b", tokens="tokens", spans=None, dtype="int64"), EXPECTED)


def test_mds_indices_below_a_merged_one_are_part_of_it(tmp_path: Path):
    for name in ("x", "y"):
        write_mds(tmp_path / "all" / name, records(), ENCODINGS)
    check(tokens("mds", tmp_path / "all"), EXPECTED * 2)
    write_mds(tmp_path / "all", records(), ENCODINGS, below="x/")
    check(tokens("mds", tmp_path / "all"), EXPECTED)


@pytest.mark.parametrize(("code", "dtype"), [(8, "<u2"), (4, "<i4"), (5, "<i8")])
@pytest.mark.parametrize("named", ["", "w", "w.bin", "w.idx"])
def test_megatron(tmp_path: Path, code: int, dtype: str, named: str):
    write_megatron(tmp_path / "m" / "w", [[document] for document in DOCUMENTS], code, dtype)
    raws = check(tokens("megatron", tmp_path / "m" / named), EXPECTED)
    assert raws[3].id.endswith("w.bin:3")


def test_megatron_documents_are_runs_of_sequences(tmp_path: Path):
    write_megatron(tmp_path / "w", [DOCUMENTS[:2], [], DOCUMENTS[2:]], 4, "<i4")
    check(tokens("megatron", tmp_path / "w"), [joined(EXPECTED[:2]), [], joined(EXPECTED[2:])])


@pytest.mark.parametrize("dtype", ["<u2", "<u4"])
@pytest.mark.parametrize("told", [None, "gpt2|{}", "Unknown Tokenizer|2|{}", "gpt2"])
def test_datatrove(tmp_path: Path, dtype: str, told: str | None):
    line = told and told.format(np.dtype(dtype).itemsize)
    write_datatrove(tmp_path / "d" / "0.ds", DOCUMENTS, dtype, line)
    write_datatrove(tmp_path / "d" / "1.ds", [], dtype, line)
    raws = check(tokens("datatrove", tmp_path / "d"), EXPECTED)
    assert raws[1].id == "d/0.ds:1"


def test_stores_behind_a_url(tmp_path: Path):
    write_mds(tmp_path / "m", records(), ENCODINGS)
    write_megatron(tmp_path / "w", [[document] for document in DOCUMENTS], 8, "<u2")
    write_datatrove(tmp_path / "0.ds", DOCUMENTS, "<u4")
    memory = fsspec.filesystem("memory")
    memory.put(f"{tmp_path}/", "/stores", recursive=True)
    check(tokens("mds", "memory://stores"), EXPECTED)
    check(tokens("megatron", "memory://stores/w"), EXPECTED)
    check(tokens("datatrove", "memory://stores/0.ds"), EXPECTED)
    memory.rm("/stores", recursive=True)


def test_units_hold_about_what_is_asked(tmp_path: Path):
    write_datatrove(tmp_path / "0.ds", [np.arange(10)] * 100, "<u4")
    source = tokens("datatrove", tmp_path)
    units = source.units(source.inputs(), 1000)
    assert [len(list(source.read(unit))) for unit in units] == [25] * 4


@pytest.mark.parametrize(("wrong", "dtype", "code"), [(-7, "<i4", 4), (2**40, "<i8", 5)])
def test_a_document_with_no_token_is_skipped(tmp_path: Path, wrong: int, dtype: str, code: int):
    write_megatron(tmp_path / "w", [[np.array([1, 2])], [np.array([3, wrong])], [np.array([4])]], code, dtype)
    raws = read(tokens("megatron", tmp_path / "w", on_error="skip"))
    assert [raw.fault for raw in raws] == [None, "bad_token", None]


def test_mds_spans_outside_their_record_are_skipped(tmp_path: Path):
    three = records()
    three[1]["indices"] = array(np.array([[0, 2], [2, 10**6]], np.uint32), typed=True)
    write_mds(tmp_path / "m", three, ENCODINGS)
    raws = read(tokens("mds", tmp_path / "m", on_error="skip"))
    assert [raw.fault for raw in raws] == [None] * 3 + ["bad_spans"] + [None] * 3
