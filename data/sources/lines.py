"""Which lines does a part of a file hold, plain or compressed, and however long one is?"""

from __future__ import annotations

import mmap
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from ..errors import DataError
from .source import Span
from .stored import compression, opened

LONG = 8 << 20
"""Bytes from which on a line is put on disk and mapped instead of being held."""
MARK = b"\xef\xbb\xbf"


@dataclass(frozen=True, kw_only=True)
class Line:
    """One line that is not blank, with its end."""

    content: bytes | mmap.mmap
    start: int
    stop: int
    """Bytes of the uncompressed file."""
    number: int | None
    """From 1; None where the file is read from somewhere inside."""


def lines(span: Span) -> Iterator[Line]:
    """Give the lines that start in [start, stop); a torn compressed file is a DataError."""
    codec = compression(span.input.url)
    offset = 0
    try:
        with opened(span.input.url, codec) as file:
            offset = _first_line(file, span)
            number = None if span.start else 0
            while span.stop is None or offset < span.stop:
                content = _read_line(file)
                size = len(content)
                if not size:
                    return
                number = None if number is None else number + 1
                if offset == 0 and isinstance(content, bytes):
                    content = content.removeprefix(MARK)
                if not isinstance(content, bytes) or content.strip():
                    yield Line(content=content, start=offset, stop=offset + size, number=number)
                offset += size
    except OSError as error:
        raise DataError(
            f"{span.input.url}: must be a whole {codec or 'readable'} file, got {error} after "
            f"{offset:,} bytes of text; fetch it again or leave it out"
        ) from error


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
