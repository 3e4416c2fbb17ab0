"""Rows of Parquet files and saved datasets become documents, whatever their row groups and string types."""

from collections.abc import Sequence
from pathlib import Path

import datasets
import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from world.stores import check, read, reader, said

from ropewalk.data import DataError
from ropewalk.data.sources.text import SMALL

TEXTS = [f"text {number} λ\r\n" * (number % 7) for number in range(40)]
KINDS = [pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string())]


def table(texts: Sequence[str | None], kind: pa.DataType | None = None) -> pa.Table:
    ids = pa.array(range(100, 100 + len(texts)))
    return pa.table({"n": ids, "text": pa.array(texts, pa.string()).cast(kind or pa.string()), "other": ids})


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_every_type_of_string(tmp_path: Path, kind: pa.DataType):
    pq.write_table(table(TEXTS, kind), tmp_path / "a.parquet", row_group_size=7)
    raws = check(reader("parquet", tmp_path), TEXTS)
    assert raws[39].id == f"{tmp_path.name}/a.parquet:39"
    assert (raws[39].start, raws[39].stop) == (39, 40)


def test_units_are_row_groups_of_the_column_that_is_read(tmp_path: Path):
    noise = pa.array([bytes([number]) * 5000 for number in range(40)])
    pq.write_table(table(TEXTS).append_column("noise", noise), tmp_path / "a.parquet", row_group_size=5)
    source = reader("parquet", tmp_path, id="n")
    units = source.units(source.inputs(), 600)
    starts = [unit.spans[0].start for unit in units]
    assert starts == sorted(starts)
    assert 1 < len(units) <= 8
    assert all(start % 5 == 0 for start in starts)
    assert [raw.id for raw in check(source, TEXTS)] == [str(number) for number in range(100, 140)]


def test_parquet_behind_a_url(tmp_path: Path):
    pq.write_table(table(TEXTS), tmp_path / "a.parquet", row_group_size=7)
    memory = fsspec.filesystem("memory")
    memory.put(str(tmp_path / "a.parquet"), "/tables/a.parquet")
    check(reader("parquet", "memory://tables/*.parquet"), TEXTS)
    memory.rm("/tables", recursive=True)


def test_a_long_cell_comes_in_blocks(tmp_path: Path):
    texts = ["漢字\n" * (SMALL // 3), "short"]
    pq.write_table(table(texts), tmp_path / "a.parquet")
    raws = check(reader("parquet", tmp_path), texts, sizes=(10**9,))
    assert len(list(raws[0].text or ())) > 4


def test_nulls_and_broken_strings(tmp_path: Path):
    binary = pa.array([b"a", b"\xff", None, b"d"])
    broken = pa.StringArray.from_buffers(4, binary.buffers()[1], binary.buffers()[2], binary.buffers()[0])
    pq.write_table(pa.table({"text": broken}), tmp_path / "a.parquet")
    raws = read(reader("parquet", tmp_path, on_error="skip"))
    assert [raw.fault for raw in raws] == [None, "not_utf8", "null", None]
    assert [said(raw) for raw in raws] == ["a", None, None, "d"]
    with pytest.raises(DataError, match=r"a\.parquet, row 1: must be UTF-8, got byte 0xff"):
        read(reader("parquet", tmp_path))


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a folder with a Dataset, also shuffled, and a DatasetDict."""
    folder = tmp_path_factory.mktemp("saved")
    data = datasets.Dataset(table(TEXTS))
    data.save_to_disk(folder / "one", num_shards=3)
    data.select(range(39, -1, -1)).save_to_disk(folder / "back")
    datasets.DatasetDict({"train": data, "test": data.select([4])}).save_to_disk(folder / "split")
    return folder


def test_a_saved_dataset(saved: Path):
    raws = check(reader("dataset", saved / "one", id="n"), TEXTS, sizes=(400,))
    assert [raw.id for raw in raws[:2]] == ["100", "101"]
    check(reader("dataset", saved / "back"), TEXTS[::-1], sizes=(1000,))
    raws = check(reader("dataset", saved / "split", split="test"), [TEXTS[4]], sizes=())
    assert (raws[0].id, raws[0].input) == ("split/test:0", "split/test")
    check(reader("dataset", saved / "one", saved / "back"), [*TEXTS, *TEXTS[::-1]], sizes=())


BAD = {
    "no split": ("split", {}, ("s.split", "none", "test, train")),
    "unknown split": ("split", {"split": "dev"}, ("s.split", "dev", "test, train")),
    "split of none": ("one", {"split": "train"}, ("s.split", "train", "remove")),
    "no dataset": (".", {}, ("s.paths", "save_to_disk", "check")),
    "no column": ("one", {"text": "body"}, ("one", "body", "n, text, other")),
    "no id": ("one", {"id": "key"}, ("one", "key", "n, text, other")),
    "numbers": ("one", {"text": "n"}, ("one", "int64", "another")),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_saved_datasets(saved: Path, case: str):
    path, fields, parts = BAD[case]
    with pytest.raises(DataError) as caught:
        read(reader("dataset", saved / path, **fields))
    assert all(part in str(caught.value) for part in parts)
