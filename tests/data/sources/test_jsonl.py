"""JSON lines give the same documents however a file is cut or packed, and however long a line is."""

import gzip
import json
import random
import tracemalloc
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from world.stores import check, facts, read, reader, said

from ropewalk.data import DataError
from ropewalk.data.sources import jsonl
from ropewalk.data.sources.source import Raw, Span, Unit

TEXTS = ["plain", "zwei\nλ 漢字 🙂", "", '\\u "quoted"', "end"]


def packed(content: bytes, codec: str | None) -> bytes:
    return content if codec is None else pa.Codec(codec).compress(content).to_pybytes()


def written(path: Path, texts: list[str], **fields: Any) -> Path:
    path.write_text(
        "".join(json.dumps({"text": text, **fields}, ensure_ascii=False) + "\n" for text in texts)
    )
    return path


LINES = st.lists(
    st.one_of(
        st.text(alphabet='aλ漢🙂\n"\\', max_size=12).map(
            lambda text: json.dumps({"text": text}, ensure_ascii=False)
        ),
        st.sampled_from(["", "  ", "\t"]),
    ),
    max_size=12,
)


@given(LINES, st.sampled_from(["\n", "\r\n"]), st.booleans(), st.booleans(), st.lists(st.integers(1, 300)))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_cut_gives_the_same_documents(
    tmp_path: Path, content: list[str], end: str, ended: bool, mark: bool, cuts: list[int]
):
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" * mark + (end.join(content) + end * ended).encode())
    source = reader("jsonl", path)
    [entry] = source.inputs()
    edges = sorted({0, *(cut for cut in cuts if cut < entry.size)})
    spans = [Span(input=entry, start=a, stop=b) for a, b in zip(edges, [*edges[1:], entry.size], strict=True)]
    parts = [list(source.read(Unit(spans=(span,)))) for span in spans]
    found = [raw for part in parts for raw in part]
    assert [said(raw) for raw in found] == [json.loads(line)["text"] for line in content if line.strip()]
    assert [facts(raw) for raw in found] == [facts(raw) for raw in read(source)]
    for raw in found:
        assert json.loads(path.read_bytes()[raw.start : raw.stop].removeprefix(b"\xef\xbb\xbf"))


@pytest.mark.parametrize(
    ("suffix", "codec"), [("", None), (".gz", "gzip"), (".zst", "zstd"), (".zstd", "zstd")]
)
def test_every_packing_gives_the_lines(tmp_path: Path, suffix: str, codec: str | None):
    """Two members or frames behind each other are one file, also where the cut is inside a line."""
    content = written(tmp_path / "a", TEXTS).read_bytes()
    (tmp_path / "a").unlink()
    for name, cut in (("a", 20), ("b", len(content) // 2), ("c", 0)):
        (tmp_path / f"{name}.jsonl{suffix}").write_bytes(
            packed(content[:cut], codec) + packed(content[cut:], codec)
        )
    raws = check(reader("jsonl", tmp_path), TEXTS * 3)
    assert raws[0].id == f"{tmp_path.name}/a.jsonl{suffix}:0"
    assert raws[1].start == len(content.split(b"\n")[0]) + 1


def test_python_writes_the_gzip_that_is_read(tmp_path: Path):
    content = written(tmp_path / "a", TEXTS).read_bytes()
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(content) + gzip.compress(content) + b"\0" * 512)
    check(reader("jsonl", tmp_path / "a.jsonl.gz"), TEXTS * 2)


def test_a_large_file_is_cut_and_small_ones_are_joined(tmp_path: Path):
    written(tmp_path / "a.jsonl", [f"text {number}" for number in range(100)])
    for name in "bcde":
        written(tmp_path / f"{name}.jsonl", ["x"])
    source = reader("jsonl", tmp_path)
    units = source.units(source.inputs(), 500)
    assert [len(unit.spans) for unit in units][-1] >= 4
    assert len(units) == 5
    assert [unit.spans[0].start for unit in units] == [0, 497, 995, 1492, 0]
    assert units == source.units(source.inputs(), 500)


def test_fields_and_ids(tmp_path: Path):
    rows = [{"meta": {"id": 7, "body": {"raw": "a"}}}, {"meta": {"id": "x", "body": {"raw": "b"}}}]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    raws = check(reader("jsonl", tmp_path, text="meta.body.raw", id="meta.id"), ["a", "b"])
    assert [raw.id for raw in raws] == ["7", "x"]


def test_a_field_whose_name_has_dots_is_found(tmp_path: Path):
    rows = [{"x.y": "a"}, {"x": {"y": "b"}}, {"x": {"y": "c"}, "x.y": "d"}]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    check(reader("jsonl", tmp_path, text="x.y"), ["a", "b", "d"])
    (tmp_path / "a.jsonl").write_text(json.dumps({"x": {"y.z": {"t": "e"}}}))
    check(reader("jsonl", tmp_path, text="x.y.z.t"), ["e"])


LONG = ["漢" * 900, "\n\t" * 700, "\U0001f642 \\" * 300, "short", "x" * 3000 + "é"]


@pytest.mark.parametrize("ascii", [True, False])
@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_a_long_line_is_read_in_blocks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ascii: bool, suffix: str
):
    """With small limits every path of the long one is taken; the id stands behind the text."""
    monkeypatch.setattr(jsonl, "LONG", 256)
    monkeypatch.setattr(jsonl, "BLOCK", 200)
    rows = [json.dumps({"text": text, "id": at}, ensure_ascii=ascii) for at, text in enumerate(LONG)]
    content = "\n".join(rows).encode()
    (tmp_path / f"a.jsonl{suffix}").write_bytes(gzip.compress(content) if suffix else content)
    raws = check(reader("jsonl", tmp_path, id="id"), LONG)
    assert [raw.id for raw in raws] == ["0", "1", "2", "3", "4"]


BROKEN_LONG = {
    "lone surrogate": (b'"\\ud83d' + b"x" * 999 + b'"', "surrogates"),
    "bad escape": (b'"' + b"x" * 999 + b'\\q"', "not_json"),
    "cut escape": (b'"' + b"x" * 999 + b'\\u12"', "not_json"),
    "control character": (b'"' + b"x" * 999 + b'\x01"', "not_json"),
    "not UTF-8": (b'"' + b"x" * 999 + b'\xff"', "not_utf8"),
    "no end": (b'"' + b"x" * 999, "not_json"),
    "id": (b'"", "id": "' + b"x" * 999 + b'"', "no_id"),
    "another type": (b'[1, "' + b"x" * 999 + b'"]', "not_text"),
}


@pytest.mark.parametrize("case", BROKEN_LONG)
def test_a_broken_long_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str):
    value, reason = BROKEN_LONG[case]
    monkeypatch.setattr(jsonl, "LONG", 256)
    monkeypatch.setattr(jsonl, "BLOCK", 200)
    (tmp_path / "a.jsonl").write_bytes(b'{"text": ' + value + b'}\n{"text": "good", "id": 1}\n')
    fields = {"id": "id"} if case == "id" else {}
    assert [raw.fault for raw in read(reader("jsonl", tmp_path, on_error="skip", **fields))] == [reason, None]
    with pytest.raises(DataError, match=r"a\.jsonl, line 1: "):
        read(reader("jsonl", tmp_path, **fields))


def test_a_long_line_is_never_one_object(tmp_path: Path):
    size = 6 * jsonl.LONG
    with (tmp_path / "a.jsonl").open("wb") as file:
        file.write(b'{"text": "')
        for _ in range(size >> 20):
            file.write(b"0123456\\n \xc3\xa9 abc" * (1 << 16))
        file.write(b'", "n": 1}\n')
    tracemalloc.start()
    [raw] = read(reader("jsonl", tmp_path))
    characters = sum(len(block) for block in raw.text or ())
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert characters == (size >> 20 << 16) * 14
    assert peak < 4 * jsonl.LONG


def test_the_line_of_a_cut_file_is_named_by_its_byte(tmp_path: Path):
    (tmp_path / "a.jsonl").write_text('{"text": "a"}\n\nnothing\n')
    source = reader("jsonl", tmp_path)
    with pytest.raises(DataError, match=r"a\.jsonl, line 3: must be JSON, got 'nothing'"):
        read(source)
    [entry] = source.inputs()
    with pytest.raises(DataError, match=r"a\.jsonl, the line at byte 15: must be JSON"):
        list(source.read(Unit(spans=(Span(input=entry, start=9, stop=20),))))


def test_what_stands_before_a_torn_end_is_read(tmp_path: Path):
    texts = [random.Random(number).randbytes(100_000).hex() for number in range(20)]
    content = written(tmp_path / "a", texts).read_bytes()
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(content)[:-9])
    source = reader("jsonl", tmp_path)
    [unit] = source.units(source.inputs(), 10**9)
    seen: list[Raw] = []
    with pytest.raises(DataError, match=r"a\.jsonl\.gz: must be a whole gzip file, .* after [\d,]{7,} bytes"):
        seen.extend(source.read(unit))
    assert len(seen) >= 10
    assert [said(raw) for raw in seen] == texts[: len(seen)]
