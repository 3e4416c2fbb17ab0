"""Which documents are the lines of JSON files, plain or compressed, and however long one is?

A line of gigabytes is put on disk and mapped. Its long strings are found by a regular expression and replaced
by a short name; what is left is ordinary JSON, and the string that stands where the text should be is decoded
block by block.
"""

from __future__ import annotations

import json
import mmap
import re
import tempfile
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, BinaryIO, ClassVar

from ..counts import Counts
from .files import TORN, compression, opened, torn
from .paths import list_inputs
from .source import Fault, Input, Piece, Raw, Reading, SourceReader, Span, Unit

from .source import checked_id, checked_text, evenly, source  # isort: skip
from .text import BLOCK, Text, decoded

PLAIN = (".jsonl", ".ndjson")
PACKED = (".gz", ".zst", ".zstd")
SUFFIXES = (*PLAIN, *(plain + packed for plain in (*PLAIN, ".json") for packed in PACKED))
"""Taken from folders; a plain `.json` there is mostly no document."""
LONG = 8 << 20
"""Bytes from which on a line is put on disk and mapped instead of being held."""
MARK = b"\xef\xbb\xbf"

STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)
WHOLE = re.compile(
    rb"(?:[^\\]{1,256}+|\\u[dD][89abAB]..\\u[dD][c-fC-F]..|\\u....|\\[^u]){1,4096}+", re.DOTALL
)
"""As much of a string as is no more than about BLOCK bytes and ends in no escape or surrogate pair."""


class JsonlReading(Reading):
    """One line is one document: plain, gzip or zstd JSON lines."""

    text: str = "text"
    """Field of the text; dots go into nested objects where no field is so named."""
    id: str | None = None
    """Field of the id; None numbers the lines."""


@dataclass(frozen=True, kw_only=True)
class Line:
    """One line that is not blank, with its end."""

    content: bytes | mmap.mmap
    start: int
    stop: int
    """Bytes of the uncompressed file."""
    place: str
    """File and line, by number, or by its first byte where the lines before it were not read."""


@source("jsonl")
@dataclass(frozen=True, kw_only=True)
class JsonlReader(SourceReader):
    """Read JSON lines, plain, gzip or zstd."""

    source: JsonlReading
    in_bytes: ClassVar[bool] = True

    def inputs(self, left_out: Counts | None = None) -> list[Input]:
        return list_inputs(self.source.paths, where=self.where, suffixes=SUFFIXES, left_out=left_out)

    def pieces(self, input: Input, size: int) -> list[Piece]:
        """Cut plain files anywhere, since a line belongs to where it starts; compressed ones stay whole."""
        return evenly(input, 1 if compression(input.url) else input.size, size)

    def read(self, unit: Unit, skip: int = 0) -> Iterator[Raw]:
        for span in unit.spans:
            name = span.input.name
            for line in lines(span):
                if skip:
                    skip -= 1
                    continue
                place = {"id": f"{name}:{line.start}", "input": name, "start": line.start, "stop": line.stop}
                yield self.raw(partial(self._content, line.content, line.place), **place)

    def _content(self, line: bytes | mmap.mmap, place: str) -> dict[str, Any]:
        """Give the text and, where the recipe names its field, the id."""
        record, long = _parsed(line, place)
        if not isinstance(record, dict):
            raise Fault(
                "not_json", place=place, must="must be a JSON object", got=type(record).__name__,
                cure="mend the line",
            )  # fmt: skip
        value = _field(record, self.source.text, place)
        content: dict[str, Any] = {}
        if self.source.id is not None:
            content["id"] = checked_id(_field(record, self.source.id, place), place)
        if content.get("id") in long:
            raise Fault(
                "no_id", place=place, must="an id must be short", got="more than 1 MB",
                cure="name another id field, or none",
            )  # fmt: skip
        text = long.get(checked_text(value, place), (value,))
        for _ in text:  # the fault of a long text comes before any of it is used
            pass
        return content | {"text": text}


def lines(span: Span) -> Iterator[Line]:
    """Give the lines that start in [start, stop); a torn compressed file is a DataError."""
    url = span.input.url
    codec = compression(url)
    stop = span.input.size if span.stop is None and not codec else span.stop  # also while the file grows
    offset = number = 0
    try:
        with opened(url, codec) as file:
            offset = _first_line(file, span)
            while (stop is None or offset < stop) and (content := _read_line(file)):
                start, offset, number = offset, offset + len(content), number + 1
                if start == 0 and isinstance(content, bytes):
                    content = content.removeprefix(MARK)
                if not isinstance(content, bytes) or content.strip():
                    place = f"the line at byte {start}" if span.start else f"line {number}"
                    yield Line(content=content, start=start, stop=offset, place=f"{url}, {place}")
    except TORN as error:
        raise torn(url, codec, error, offset) from error


def _first_line(file: BinaryIO, span: Span) -> int:
    """Go to where the first line of a span starts: a line belongs to the span that holds its first byte."""
    if not span.start:
        return 0
    offset = file.seek(span.start - 1)
    while part := file.readline(LONG):
        offset += len(part)
        if part.endswith(b"\n") or (span.stop is not None and offset >= span.stop):
            break
    return offset


def _read_line(file: BinaryIO) -> bytes | mmap.mmap:
    part = file.readline(LONG)
    if len(part) < LONG or part.endswith(b"\n"):
        return part
    with tempfile.TemporaryFile() as spooled:
        while part:
            spooled.write(part)
            part = b"" if part.endswith(b"\n") else file.readline(LONG)
        spooled.flush()
        return mmap.mmap(spooled.fileno(), 0, access=mmap.ACCESS_READ)


def _parsed(line: bytes | mmap.mmap, place: str) -> tuple[Any, dict[str, Iterable[str]]]:
    """Parse a line; of a mapped one, also give the long strings by the names that stand for them in it."""
    if isinstance(line, bytes):
        return _loads("".join(decoded([line], place)), place), {}
    long: dict[str, Iterable[str]] = {}
    kept: list[bytes] = []
    done = 0
    for match in STRING.finditer(line):
        first, last = match.span()
        if last - first > BLOCK:
            name = uuid.uuid4().hex
            long[name] = Text(partial(_literal, line, first + 1, last - 1, place))
            kept += [line[done:first], f'"{name}"'.encode()]
            done = last
    rest = "".join(decoded([*kept, line[done:]], place))
    return _loads(rest.removeprefix("\ufeff"), place), long


def _literal(line: mmap.mmap, first: int, last: int, place: str) -> Iterator[str]:
    """Decode the inside of a string."""
    for text in decoded(_parts(line, first, last), place):
        yield checked_text(_loads(f'"{text}"', place), place)


def _parts(line: mmap.mmap, first: int, last: int) -> Iterator[bytes]:
    """Cut the inside of a string between escapes; what is none stays, for the parser to name."""
    while first < last:
        match = WHOLE.match(line, first, last)
        stop = match.end() if match else min(last, first + BLOCK)
        yield line[first:stop]
        first = stop


def _loads(text: str, place: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Fault(
            "not_json", place=place, must="must be JSON", got=f"{text.strip()[:40]!r} ({error})",
            cure="mend the line",
        ) from error  # fmt: skip


def _field(record: dict[str, Any], name: str, place: str) -> Any:
    """Give what a dotted name leads to."""
    for value in _led_to(record, name):
        return value
    known = ", ".join(record) or "none"
    raise Fault(
        "missing_field", place=place, must=f"must have the field {name}",
        got=f"only {known[:200]}", cure="name another field",
    )  # fmt: skip


def _led_to(value: Any, name: str) -> Iterator[Any]:
    """Give the field of this name, then what its parts at each dot lead to in nested objects."""
    if not isinstance(value, dict):
        return
    if name in value:
        yield value[name]
    for dot in re.finditer(r"\.", name):
        yield from _led_to(value.get(name[: dot.start()]), name[dot.end() :])
