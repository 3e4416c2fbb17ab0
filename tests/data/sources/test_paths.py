"""Paths name the same files by the same names wherever they lie: here, or behind an fsspec URL."""

import os
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest
from world.stores import check, read, reader

from ropewalk.data import DataError
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
