"""Which documents are the lines of JSON files?"""

from __future__ import annotations

import json
import mmap
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from .blocks import Text
from .cutting import evenly, gathered
from .faults import Fault, Policy, checked_id, checked_text
from .lines import Line, lines
from .longline import loads_long
from .paths import list_inputs
from .source import Input, Raw, Unit
from .spec import JsonlReading
from .stored import compression

PLAIN = (".jsonl", ".ndjson")
PACKED = (".gz", ".zst", ".zstd")
SUFFIXES = (*PLAIN, *(plain + packed for plain in (*PLAIN, ".json") for packed in PACKED))
"""Taken from folders; a plain `.json` there is mostly no document."""


@dataclass(frozen=True, kw_only=True)
class JsonlReader:
    """Read JSON lines, plain, gzip or zstd."""

    source: JsonlReading
    where: str

    def inputs(self) -> list[Input]:
        return list_inputs(self.source.paths, where=self.where, suffixes=SUFFIXES)

    def units(self, inputs: Sequence[Input], size: int) -> list[Unit]:
        """Cut plain files anywhere, since a line belongs to where it starts; compressed ones stay whole."""
        return gathered(
            (
                piece
                for input in inputs
                for piece in evenly(input, 1 if compression(input.url) else input.size, size)
            ),
            size,
        )

    def read(self, unit: Unit, skip: int = 0) -> Iterator[Raw]:
        policy = Policy(where=self.where, on_error=self.source.on_error)
        for span in unit.spans:
            for line in lines(span):
                if skip:
                    skip -= 1
                    continue
                name = span.input.name
                own = f"{name}:{line.start}"
                spot = {"input": name, "start": line.start, "stop": line.stop}
                try:
                    text, id_ = self._parse(line, _place(span.input.url, line))
                except Fault as fault:
                    yield policy.refuse(fault, id=own, **spot)
                else:
                    yield Raw(id=own if id_ is None else id_, text=text, **spot)

    def _parse(self, line: Line, place: str) -> tuple[Iterable[str], str | None]:
        """Give the text and, where the recipe names its field, the id."""
        if isinstance(line.content, mmap.mmap):
            record, long = loads_long(line.content, lambda text: _loads(text, place), place)
        else:
            record, long = _loads(_utf8(line.content, place), place), {}
        if not isinstance(record, dict):
            raise Fault(
                "not_json", place=place, must="must be a JSON object", got=type(record).__name__,
                cure="mend the line",
            )  # fmt: skip
        value = _field(record, self.source.text, place)
        id_ = None if self.source.id is None else checked_id(_field(record, self.source.id, place), place)
        if id_ in long:
            raise Fault(
                "no_id", place=place, must="an id must be short", got="more than 1 MB",
                cure="name another id field, or none",
            )  # fmt: skip
        text: Iterable[str] = (checked_text(value, place),)
        if value in long:
            text = long[value]
            _go_through(text)
        return text, id_


def _place(url: str, line: Line) -> str:
    """Say where a line is: by number, or by its first byte where the lines before it were not read."""
    return f"{url}, line {line.number}" if line.number else f"{url}, the line at byte {line.start}"


def _utf8(content: bytes, place: str) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        got = f"byte 0x{content[error.start]:02x} at {error.start} of the line"
        raise Fault("not_utf8", place=place, must="must be UTF-8", got=got, cure="convert it") from error


def _loads(text: str, place: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Fault(
            "not_json", place=place, must="must be JSON", got=f"{text.strip()[:40]!r} ({error})",
            cure="mend the line",
        ) from error  # fmt: skip


def _field(record: dict[str, Any], name: str, place: str) -> Any:
    """Follow a dotted name into nested objects."""
    value: Any = record
    for part in name.split("."):
        if not isinstance(value, dict) or part not in value:
            known = ", ".join(record) or "none"
            raise Fault(
                "missing_field", place=place, must=f"must have the field {name}",
                got=f"only {known[:200]}", cure="name another field",
            )  # fmt: skip
        value = value[part]
    return value


def _go_through(text: Text) -> None:
    """Find the fault of a long text before any of it is used."""
    for _ in text:
        pass
