"""Text files become documents as they are, in blocks where they are long, and repositories as one."""

import tracemalloc
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from world.stores import check, read, reader

from ropewalk.data import DataError
from ropewalk.data.sources.source import Fault
from ropewalk.data.sources.text import BLOCK, SMALL, decoded, normalised

TEXTS = st.text(alphabet="a\r\n\ufeffäλ漢🙂", max_size=40)


@given(TEXTS, st.booleans(), st.lists(st.integers(0, 200), max_size=8))
def test_any_cut_decodes_as_the_whole(text: str, mark: bool, cuts: list[int]):
    content = b"\xef\xbb\xbf" * mark + text.encode()
    edges = sorted({0, len(content), *(cut for cut in cuts if cut < len(content))})
    chunks = [content[start:stop] for start, stop in pairwise(edges)]
    expected = content.decode("utf-8-sig").replace("\r\n", "\n")
    assert "".join(normalised(decoded(chunks, "here"))) == expected


@given(st.integers(0, 30), st.integers(1, 7), st.sampled_from([b"\xff", b"\xe6\xbc", b"\xed\xa0\x80"]))
def test_a_broken_byte_is_named_whatever_the_chunks(before: int, step: int, broken: bytes):
    content = ("é" * before).encode() + broken
    chunks = [content[at : at + step] for at in range(0, len(content), step)]
    with pytest.raises(Fault, match=f"here: .* at {2 * before};"):
        list(decoded(chunks, "here"))


@pytest.fixture(scope="module")
def long(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a folder with a file of 16 MB of many-byte characters between two short ones."""
    folder = tmp_path_factory.mktemp("long")
    (folder / "a.txt").write_text("a\n")
    (folder / "b.txt").write_bytes("漢字 λ\r\n".encode() * (SMALL // 3))
    (folder / "c.txt").write_text("")
    return folder


def test_a_long_file_comes_in_blocks_and_twice_the_same(long: Path):
    raws = check(reader("files", long), ["a\n", "漢字 λ\n" * (SMALL // 3), ""], sizes=(1,))
    assert raws[1].text is not None
    sizes = [len(block.encode()) for block in raws[1].text]
    assert len(sizes) > 10
    assert max(sizes) <= BLOCK


def test_a_long_file_is_never_one_object(long: Path):
    tracemalloc.start()
    for raw in read(reader("files", long)):
        for _ in raw.text or ():
            pass
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (long / "b.txt").stat().st_size > 2 * SMALL
    assert peak < 2 * SMALL


def test_the_fault_of_a_long_file_comes_before_its_text(tmp_path: Path):
    (tmp_path / "a.txt").write_bytes(b"x" * (SMALL + 5) + b"\xe9" + b"y" * 9)
    [raw] = read(reader("files", tmp_path, on_error="skip"))
    assert (raw.fault, raw.text, raw.stop) == ("not_utf8", None, SMALL + 15)
    with pytest.raises(DataError, match=rf"a\.txt: .*0xe9 at {SMALL + 5};.*on_error: skip"):
        read(reader("files", tmp_path))


def test_a_repository_is_its_files_in_order(tmp_path: Path):
    root = tmp_path / "repos"
    for name, content in {
        "one/b.py": "b\n", "one/a/x.py": "x", "one/c.md": "c\r\n", "one/empty.py": "",
        "two/z.py": "z", "loose.py": "l", "one-more/q.py": "q",
    }.items():  # fmt: skip
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content.encode())
    raws = check(reader("files", root, per="repository"), ["l", "x\nb\nc\n", "q", "z"])
    assert [raw.id for raw in raws] == ["repos/loose.py", "repos/one", "repos/one-more", "repos/two"]
    twice = reader("files", root / "*/*.md", root / "**/*.py", per="repository")
    check(twice, ["x\nb\nc\n", "l", "q", "z"])


def test_one_broken_file_faults_its_repository_alone(tmp_path: Path):
    for name, content in {"one/a.py": b"a", "one/b.py": b"\xe9", "two/c.py": b"c"}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    raws = read(reader("files", tmp_path, per="repository", on_error="skip"))
    assert [raw.fault for raw in raws] == ["not_utf8", None]
    with pytest.raises(DataError, match=r"one/b\.py: .*0xe9 at 0"):
        read(reader("files", tmp_path, per="repository"))
