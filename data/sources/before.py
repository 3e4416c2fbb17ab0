"""What does the corpus ask of folders of text until it reads units?"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .files import FilesReader
from .spec import FilesReading


@dataclass(frozen=True, kw_only=True)
class Raw:
    """One document before tokenising; `text` is None where the file was not UTF-8 and is to be skipped."""

    id: str
    text: str | None
    bytes: int
    digest: bytes


def list_files(source: FilesReading, *, where: str) -> list[tuple[str, Path]]:
    """Give (id, path) of every file."""
    return [(input.name, Path(input.url)) for input in FilesReader(source=source, where=where).inputs()]


def read_files(source: FilesReading, *, where: str) -> Iterator[Raw]:
    """Read each file."""
    reader = FilesReader(source=source, where=where)
    inputs = reader.inputs()
    for unit in reader.units(inputs, 1 << 24):
        for span, raw in zip(unit.spans, reader.read(unit), strict=True):
            content = Path(span.input.url).read_bytes()
            digest = hashlib.sha256(content).digest()
            text = None if raw.text is None else "".join(raw.text)
            yield Raw(id=raw.id, text=text, bytes=len(content), digest=digest)
