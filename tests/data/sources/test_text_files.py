"""A files source lists what it names, in one order, by ids that do not depend on where the files lie."""

import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from world.stores import read, reader, said

import ropewalk
from ropewalk.data import DataError, FilesSource
from ropewalk.data.sources import open_reader
from ropewalk.data.sources.text import DEFAULT_EXCLUDE


def ids(*paths: str | Path, **fields: Any) -> list[str]:
    spec = {"kind": "files", "weight": 1.0, "paths": [str(path) for path in paths], **fields}
    source = open_reader(FilesSource.model_validate(spec), where="data.sources.s")
    return [entry.name for entry in source.inputs()]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "tree"
    for name in (
        "b.py",
        "a.py",
        "notes.md",
        "image.png",
        "tests/t.py",
        "deep/_vendor/v.py",
        "deep/c.py",
        ".git/x.py",
    ):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x = 1\n")
    return root


def test_a_folder_gives_its_text_sorted_without_tests_and_copies(tree: Path):
    assert ids(tree) == ["tree/a.py", "tree/b.py", "tree/deep/c.py", "tree/notes.md"]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"suffixes": [".md"]}, ["tree/notes.md"]),
        ({"exclude": ["deep", ".*"], "suffixes": [".py"]}, ["tree/a.py", "tree/b.py", "tree/tests/t.py"]),
        ({"exclude": ["deep/*", "*.md", "tests", ".git"]}, ["tree/a.py", "tree/b.py"]),
        (
            {"exclude": ["deep/_vendor", "tests", ".*"], "suffixes": [".py"]},
            ["tree/a.py", "tree/b.py", "tree/deep/c.py"],
        ),
    ],
)
def test_suffixes_and_exclude_choose(tree: Path, fields: dict[str, Any], expected: list[str]):
    assert ids(tree, **fields) == expected


def test_globs_and_single_files(tree: Path):
    assert ids(tree / "*.p*") == ["tree/a.py", "tree/b.py", "tree/image.png"]
    assert ids(tree / "**/*.py", exclude=["tests", "_vendor"]) == ["tree/a.py", "tree/b.py", "tree/deep/c.py"]
    assert ids(tree / "image.png") == ["image.png"]


def test_a_file_named_twice_is_read_once(tree: Path):
    assert ids(tree, tree / "*.py", tree / "a.py") == ids(tree)


def test_two_folders_of_one_name_are_refused(tree: Path, tmp_path: Path):
    shutil.copytree(tree, tmp_path / "other" / "tree")
    with pytest.raises(DataError, match=r"paths: .*tree/a\.py twice; rename"):
        ids(tree, tmp_path / "other" / "tree")


def test_ids_do_not_depend_on_the_place(tree: Path, tmp_path: Path):
    moved = shutil.copytree(tree, tmp_path / "elsewhere" / "tree")
    assert ids(moved) == ids(tree)


def test_the_standard_library_is_there_without_its_tests():
    found = ids("python:stdlib", suffixes=[".py"])
    assert "stdlib/argparse.py" in found
    assert len(found) > 300
    folders = {part for id_ in found for part in Path(id_).parts[:-1]}
    assert not folders & {"test", "tests", "idlelib", "site-packages", "_vendor"}


def test_a_package_of_one_file():
    assert ids("python:argparse") == ["argparse"]


def test_line_ends_and_marks_are_normalised(tmp_path: Path):
    (tmp_path / "w.py").write_bytes(b"\xef\xbb\xbfa = 1\r\nb = 2\r\n")
    (raw,) = read(reader("files", tmp_path))
    assert said(raw) == "a = 1\nb = 2\n"


def test_the_page_tells_what_is_excluded_by_default():
    page = (Path(ropewalk.__file__).parent / "docs/data.md").read_text("utf-8")
    [told] = re.findall(r"^exclude: .*$", page, re.MULTILINE)
    assert tuple(yaml.safe_load(told)["exclude"]) == DEFAULT_EXCLUDE
