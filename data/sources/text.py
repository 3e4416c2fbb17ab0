"""Which documents are text files, one each, or the files of one repository together? And how is a text of any
length read without ever being one object?"""

from __future__ import annotations

import codecs
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from typing import Any, ClassVar, Literal

from pydantic import Field

from ..counts import Counts
from .files import opened
from .paths import list_inputs
from .source import Fault, Input, Raw, Reading, SourceReader, Span, Unit, gathered, source

BLOCK = 1 << 20
"""Bytes that are decoded at a time."""
SMALL = 4 * BLOCK
"""A document of at most so many bytes is one block."""

DEFAULT_EXCLUDE = (
    "test", "tests", "_vendor", "vendor", "_vendored", "third_party", "site-packages", "idlelib", ".*",
)  # fmt: skip


class FilesReading(Reading):
    """One text file is one document, or one repository of them."""

    paths: tuple[str, ...] = Field(min_length=1)
    """Folders, files, globs or fsspec URLs; `python:stdlib` is the running interpreter's library,
    `python:NAME` an installed package."""
    suffixes: tuple[str, ...] = (".py", ".txt", ".md", ".rst")
    """File names taken from folders; globs and single files are taken as they are."""
    exclude: tuple[str, ...] = DEFAULT_EXCLUDE
    """Globs over the path below the folder, whole or any one part of it."""
    per: Literal["file", "repository"] = "file"
    """What is one document; a repository is a folder directly below a path, its files in sorted order."""


@source("files")
@dataclass(frozen=True, kw_only=True)
class FilesReader(SourceReader):
    """Read folders of text and code."""

    source: FilesReading
    in_bytes: ClassVar[bool] = True

    def inputs(self, left_out: Counts | None = None) -> list[Input]:
        """Every file; those of one repository sorted behind each other, whatever paths named them."""
        files = list_inputs(
            self.source.paths,
            where=self.where,
            suffixes=self.source.suffixes,
            exclude=self.source.exclude,
            left_out=left_out,
        )
        if self.source.per == "file":
            return files
        together: dict[str, list[Input]] = {}
        for file in files:
            together.setdefault(self._document(file), []).append(file)
        return [
            file
            for repository in together.values()
            for file in sorted(repository, key=lambda file: file.name.split("/"))
        ]

    def units(self, inputs: Sequence[Input], size: int) -> list[Unit]:
        documents = groupby(inputs, self._document)
        spans = [tuple(Span(input=file) for file in files) for _, files in documents]
        return gathered(((document, sum(span.input.size for span in document)) for document in spans), size)

    def read(self, unit: Unit, skip: int = 0) -> Iterator[Raw]:
        documents = groupby((span.input for span in unit.spans), self._document)
        for name, files in [(name, list(files)) for name, files in documents][skip:]:
            size = sum(file.size for file in files)
            content = partial(_content, [file.url for file in files], size)
            yield self.raw(content, id=name, input=name, start=0, stop=size)

    def _document(self, file: Input) -> str:
        """Name the document of a file: itself, or the folder directly below the path, if it lies in one."""
        return file.name if self.source.per == "file" else "/".join(file.name.split("/")[:2])


@dataclass(frozen=True)
class Text:
    """Blocks that are read anew each time they are asked for."""

    read: Callable[[], Iterator[str]]

    def __iter__(self) -> Iterator[str]:
        return self.read()


def text_of(read: Callable[[], Iterator[str]], size: int) -> Iterable[str]:
    """Give a document's blocks: one string, or, where it is long, one that is read again when asked for.

    A long one is gone through once before, so that the Fault of a byte in its middle comes before any of its
    tokens does: nothing half-written may remain of a document that is skipped.
    """
    if size <= SMALL:
        return ("".join(read()),)
    for _ in read():
        pass
    return Text(read)


def decoded(chunks: Iterable[bytes], place: str) -> Iterator[str]:
    """Decode UTF-8 chunk by chunk; a Fault says which byte, counted from the start, is wrong."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    fed = 0
    try:
        for chunk in chunks:
            fed += len(chunk)
            yield decoder.decode(chunk)
        yield decoder.decode(b"", final=True)
    except UnicodeDecodeError as error:
        at = fed - len(error.object) + error.start
        raise Fault(
            "not_utf8", place=place, must="must be UTF-8",
            got=f"byte 0x{error.object[error.start]:02x} at {at}", cure="convert it, exclude it",
        ) from error  # fmt: skip


def normalised(blocks: Iterable[str]) -> Iterator[str]:
    r"""Drop the byte order mark and turn \r\n into \n, also where a block ends between the two."""
    held = ""
    first = True
    for block in blocks:
        if first and block:
            block, first = block.removeprefix("\ufeff"), False
        block = held + block
        held = "\r" if block.endswith("\r") else ""
        block = block.removesuffix(held).replace("\r\n", "\n")
        if block:
            yield block
    if held:
        yield held


def _content(urls: Sequence[str], size: int) -> dict[str, Any]:
    return {"text": text_of(partial(_concatenated, urls), size)}


def _concatenated(urls: Sequence[str]) -> Iterator[str]:
    """Give the files' text behind each other, each on lines of its own.

    No header tells where a file starts: it would put text into the document that nobody wrote, in the
    comment syntax of one language, and ProLong's repositories, which recipes compare with, have none.
    """
    last = "\n"
    for url in urls:
        with opened(url) as file:
            for number, block in enumerate(normalised(decoded(iter(lambda: file.read(BLOCK), b""), url))):
                if number == 0 and last != "\n":
                    yield "\n"
                yield block
                last = block[-1]
