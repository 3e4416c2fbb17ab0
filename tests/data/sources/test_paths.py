"""Paths name the same files by the same names wherever they lie: here, or behind an fsspec URL."""

import os
from collections.abc import Iterator
from pathlib import Path

import fsspec
import numpy as np
import pytest
from datasets import Dataset
from world.stores import array, check, read, reader, write_mds, write_megatron

from ropewalk.data import DataError
from ropewalk.data.counts import Counts
from ropewalk.data.sources.paths import list_inputs
from ropewalk.data.sources.source import Span, Unit

FILES = ("b.py", "a.py", "deep/c.py", "deep-er/d.py", "notes.md", ".git/x.py", "image.png")
NAMES = ["tree/a.py", "tree/b.py", "tree/deep/c.py", "tree/deep-er/d.py"]


@pytest.fixture
def here(tmp_path: Path) -> Path:
    for name in FILES:
        (tmp_path / "tree" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "tree" / name).write_text(f"# {name}\n")
    return tmp_path / "tree"


@pytest.fixture
def there(here: Path) -> Iterator[str]:
    """Give the same tree in fsspec's memory."""
    memory = fsspec.filesystem("memory")
    memory.put(str(here), "/room/tree", recursive=True)
    yield "memory://room/tree"
    memory.rm("/room", recursive=True)


@pytest.mark.parametrize("below", ["", "/**/*.py", "/*.py", "/deep/c.py", "/deep"])
def test_a_url_names_what_the_folder_names(here: Path, there: str, below: str):
    """Hidden folders are excluded: pathlib's globs leave them out, fsspec's do not."""

    def listed(root: str) -> list[tuple[str, int]]:
        inputs = list_inputs([f"{root}{below}"], where="s", suffixes=(".py",))
        assert all(input.stamp for input in inputs)
        return sorted((input.name, input.size) for input in inputs)

    assert listed(str(here)) == listed(there) == listed(f"file://{here}")
    assert listed(there)


def test_names_are_sorted_by_folder(here: Path, there: str):
    for root in (str(here), there):
        assert [input.name for input in list_inputs([root], where="s", suffixes=(".py",))] == NAMES


def test_documents_behind_a_url_are_those_of_the_folder(here: Path, there: str):
    expected = [f"# {name.removeprefix('tree/')}\n" for name in [*NAMES, "notes.md"]]
    assert [raw.id for raw in check(reader("files", there), expected)] == [*NAMES, "tree/notes.md"]
    check(reader("files", here), expected)


def test_a_changed_file_changes_its_stamp(here: Path):
    before = list_inputs([str(here)], where="s", suffixes=(".md",))
    os.utime(here / "notes.md", ns=(1, 1))
    assert list_inputs([str(here)], where="s", suffixes=(".md",)) != before


def test_a_file_that_two_urls_name_is_read_once(here: Path, there: str):
    assert len(list_inputs([there, f"{there}/*.py"], where="s", suffixes=(".py",))) == len(NAMES)
    with pytest.raises(DataError, match=r"s\.paths: .*tree/a\.py twice; rename"):
        list_inputs([there, str(here)], where="s", suffixes=(".py",))


BAD = {
    "folder without such files": ("{here}", "png3", ("s.paths", "tree", "suffixes")),
    "no such URL": ("memory://nowhere/x", "py", ("s.paths", "memory://nowhere/x", "check")),
    "no such protocol": ("xyz://a/b", "py", ("s.paths", "xyz://a/b", "install")),
    "chained URL": ("zip://a::memory://b.zip", "py", ("s.paths", "::", "unpack")),
    "glob of folders": ("{here}/dee*", "py", ("s.paths", "dee*", "check")),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_paths(case: str, here: Path):
    path, suffix, parts = BAD[case]
    with pytest.raises(DataError) as caught:
        list_inputs([path.format(here=here)], where="s", suffixes=(f".{suffix}",))
    assert all(part in str(caught.value) for part in parts)


def test_a_file_that_is_gone_is_named(here: Path, there: str):
    for root in (str(here), there):
        source = reader("files", root)
        unit = Unit(spans=(Span(input=source.inputs()[0]),))
        (here / "a.py").unlink(missing_ok=True)
        fsspec.filesystem("memory").rm("/room/tree/a.py") if root == there else None
        with pytest.raises(DataError, match=r"a\.py: must be readable"):
            next(source.read(unit))


def test_reading_in_units_is_reading(here: Path):
    assert len(read(reader("files", here), 1)) == len(NAMES) + 1


def test_what_is_not_read_is_counted_by_reason(here: Path, there: str):
    """Of the seven `.git/x.py` is excluded, `notes.md` and `image.png` end otherwise."""
    expected = {"excluded": {"files": 1, "bytes": 12}, "other_ending": {"files": 2, "bytes": 23}}
    for root in (str(here), there):
        left_out = Counts()
        list_inputs([root], where="s", suffixes=(".py",), left_out=left_out)
        assert left_out == expected
    (here / "z.py").symlink_to(here / "a.py")
    (here / "gone.py").symlink_to(here / "none.py")
    (here / "linked").symlink_to(here / "deep")
    left_out = Counts()
    list_inputs([str(here), f"{here}/[db]*"], where="s", suffixes=(".py",), left_out=left_out)
    assert left_out == expected | {
        "same_file": {"files": 2, "bytes": 14},
        "no_file": {"files": 1},
        "linked_folder": {"folders": 1},
        "folder_of_glob": {"folders": 2},
    }


def test_what_is_read_or_told_already_is_not_left_out(here: Path):
    """Whatever leads there: a link of a right name, a path of its own, a path twice."""
    (here / "linked.py").symlink_to(here / "notes.md")
    (here / "read").symlink_to(here / "deep")
    (here / ".hidden").symlink_to(here.parent)
    read, left_out = [str(here), str(here), str(here / "read")], Counts()
    names = [input.name for input in list_inputs(read, where="s", suffixes=(".py",), left_out=left_out)]
    assert "tree/linked.py" in names
    del left_out["same_file"]
    assert left_out == {
        "excluded": {"files": 1, "bytes": 12, "folders": 1},
        "other_ending": {"files": 1, "bytes": 12},
    }


@pytest.mark.parametrize("kind", ["files", "dataset"])
def test_a_link_has_its_own_name(kind: str, here: Path, tmp_path: Path):
    """As a hub's cache has it: a snapshot's files are links to blobs that are called after their hash."""
    if kind == "dataset":
        Dataset.from_dict({"text": ["a"]}).save_to_disk(tmp_path / "0fa9")
        (tmp_path / "book").symlink_to(tmp_path / "0fa9")
        assert [raw.id for raw in read(reader(kind, tmp_path / "book"))] == ["book:0"]
        return
    (tmp_path / "0fa9").write_text("text")
    (tmp_path / "book.txt").symlink_to(tmp_path / "0fa9")
    (tmp_path / "forest").symlink_to(here)
    assert [raw.id for raw in read(reader(kind, tmp_path / "book.txt"))] == ["book.txt"]
    assert read(reader(kind, tmp_path / "forest", suffixes=[".py"]))[0].id == "forest/a.py"
    assert read(reader(kind, f"{tmp_path}/forest/*.py"))[0].id == "forest/a.py"


def test_a_name_that_is_not_utf8_is_written_as_text(here: Path):
    with open(os.fsencode(here) + b"/caf\xe9.py", "w") as file:
        file.write("text")
    assert [raw.id for raw in read(reader("files", here, suffixes=[".py"]))][2] == r"tree/caf\xe9.py"
    (here / "deep/c.py").write_bytes(b"\xff")
    with open(os.fsencode(here) + b"/caf\xe9.py", "wb") as file:
        file.write(b"\xff")
    with pytest.raises(DataError, match=r"caf.*e9\.py.*on_error") as caught:
        read(reader("files", f"{here}/caf*"))
    str(caught.value).encode()


def test_shards_and_pairs_that_no_index_tells_of_are_counted(tmp_path: Path):
    write_mds(tmp_path / "m", [{"a": array(np.arange(3), typed=True)}] * 3, {"a": "ndarray"})
    (tmp_path / "m/shard.00009.mds").write_bytes(b"1234")
    write_megatron(tmp_path / "n/w", [[np.arange(2)]], 4, "<i4")
    (tmp_path / "n/lone.bin").write_bytes(b"1234")
    for kind, fields in {"mds": {"tokens": "a", "spans": None}, "megatron": {}}.items():
        left_out, folder = Counts(), tmp_path / ("m" if kind == "mds" else "n")
        assert len(reader(kind, folder, tokenizer="t", **fields).inputs(left_out)) == 1
        assert left_out == {"not_in_index": {"files": 1, "bytes": 4}}
