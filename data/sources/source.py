"""What does every kind of source give, what is asked of it, and how is a kind added?

A kind is one file of this folder: a section, which is what a recipe may say of it, and the reader of that
section, registered under the kind's name. `data/spec.py` makes both legal in a recipe.
A document that cannot be read is a `Fault`; with `on_error: skip` it is counted by corpus/tokenise.py.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Any, ClassVar, Literal, Protocol, get_type_hints

import numpy as np
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from ..counts import Counts
from ..errors import DataError
from ..registry import Registry


def _at_home(path: str) -> str:
    path = os.path.expanduser(path)
    if path.startswith("~"):
        raise ValueError(f"must begin at a home folder that is there, got {path}; name it without the ~")
    return path


Folder = Annotated[str, AfterValidator(_at_home)]
"""A path of this machine; `~` is the home folder."""


class Section(BaseModel):
    """Refuse unknown keys and changes in every part of a data section."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Reading(Section):
    """Where documents lie and what to do with bad ones."""

    paths: tuple[str, ...] = Field(min_length=1)
    """Folders, files, globs or fsspec URLs."""
    licence: str | None = None
    """A note that the manifest keeps."""
    on_error: Literal["raise", "skip"] = "raise"
    """A document that cannot be read: stop, or count and skip."""


class TokenReading(Reading):
    """Tokens somebody made before."""

    tokenizer: Folder
    """Folder of the tokenizer that made them; it must be the model's."""


@dataclass(frozen=True, kw_only=True)
class Input:
    """One file that is read; a `name` starts with the folder's own name, never with its place here."""

    name: str
    url: str
    size: int
    """Bytes as stored."""
    stamp: str = ""
    """What changes with it where that is known cheaply: times or an etag."""
    beside: tuple[str, ...] = ()
    """Other files that are read with this one; the stamp is that of all."""

    @property
    def files(self) -> tuple[str, ...]:
        """All that is read."""
        return (self.url, *self.beside)


@dataclass(frozen=True, kw_only=True)
class Span:
    """A part of one input: [start, stop) in the reader's own unit (uncompressed bytes, or rows); stop None is
    the end."""

    input: Input
    start: int = 0
    stop: int | None = None


@dataclass(frozen=True, kw_only=True)
class Unit:
    """What one worker reads in one go; the same for any number of workers and tasks."""

    spans: tuple[Span, ...]


@dataclass(frozen=True, kw_only=True)
class Raw:
    """One document before tokenising: text in blocks, or tokens, or the reason why it has neither."""

    id: str
    """Unique in its source, the same on every machine."""
    start: int
    stop: int
    """Where it lies in its input: bytes of the uncompressed file, or row numbers."""
    input: str = ""
    """Name of the input it lies in."""
    text: Iterable[str] | None = None
    """Blocks whose concatenation is the text, read when asked for; a short document is one block."""
    tokens: np.ndarray | None = None
    """uint32, without separators."""
    fault: str | None = None
    """Why there is neither, where the recipe says to skip: `not_utf8`, `null`, `missing_field`, ..."""


class Fault(DataError):  # noqa: N818 it is what a document has
    """One document is broken; `reason` is the word under which it is counted."""

    def __init__(self, reason: str, *, place: str, must: str, got: str, cure: str) -> None:
        super().__init__(f"{place}: {must}, got {got}; {cure}")
        self.reason = reason


class Reader(Protocol):
    """Read one source of a recipe."""

    in_bytes: bool
    """Documents are told by bytes of the uncompressed file, not by rows."""

    def inputs(self, left_out: Counts | None = None) -> list[Input]:
        """Every input in canonical order; a DataError where a path names none. What lies beside them and is
        not read is counted in `left_out`."""
        ...

    def units(self, inputs: Sequence[Input], size: int) -> list[Unit]:
        """Cut the inputs into units of about `size` stored bytes, in order, each byte exactly once."""
        ...

    def read(self, unit: Unit, skip: int = 0) -> Iterator[Raw]:
        """Give the documents of a unit in order, after the first `skip` of them, which cost no parsing.

        Broken content is a DataError that names file and row, or a Raw with a `fault`, as `on_error` says.
        """
        ...


Piece = tuple[tuple[Span, ...], int]
"""Spans that stay together, and their stored bytes."""


@dataclass(frozen=True, kw_only=True)
class SourceReader(Reader):
    """What the readers of all kinds share; a kind narrows the type of `source` to its own section."""

    source: Reading
    where: str
    """Its key in the recipe, for messages."""
    in_bytes: ClassVar[bool] = False

    @property
    def paths(self) -> Sequence[str]:
        """What is looked for: the recipe's paths, or what they stand for."""
        return self.source.paths

    def pieces(self, input: Input, size: int) -> Iterable[Piece]:
        """Cut one input where it may be cut, into pieces of at most about `size` stored bytes."""
        raise NotImplementedError

    def units(self, inputs: Sequence[Input], size: int) -> list[Unit]:
        return gathered((piece for input in inputs for piece in self.pieces(input, size)), size)

    def raw(self, content: Callable[[], Mapping[str, Any]], **place: Any) -> Raw:
        """Make the document of a place (`id, input, start, stop`) with the fields that `content` gives,
        or without, where it raises a Fault and the recipe says to skip."""
        try:
            return Raw(**{**place, **content()})
        except Fault as fault:
            if self.source.on_error == "raise":
                raise DataError(f"{fault}, or set {self.where}.on_error: skip") from fault
            return Raw(**place, fault=fault.reason)


source: Registry[SourceReader] = Registry("source")
"""Registers the reader of a kind under the name that a recipe gives as `kind`."""


def section_of(kind: str) -> type[Reading]:
    """Give the section that the reader of a kind reads."""
    return get_type_hints(source.known[kind])["source"]


def gathered(pieces: Iterable[Piece], size: int) -> list[Unit]:
    """Join pieces in order into units of at most `size` stored bytes, or of one piece."""
    held = list(pieces)
    return [
        Unit(spans=tuple(span for spans, _ in held[first:stop] for span in spans))
        for first, stop, _ in borders([stored for _, stored in held], size)
    ]


def borders(weights: Sequence[int], size: int) -> Iterator[tuple[int, int, int]]:
    """Join rows in order into (first, last + 1, weight) of at most `size`, or of one row."""
    first = held = 0
    for row, weight in enumerate(weights):
        if row > first and held + weight > size:
            yield first, row, held
            first, held = row, 0
        held += weight
    if len(weights) > first:
        yield first, len(weights), held


def evenly(input: Input, total: int, size: int) -> list[Piece]:
    """Cut [0, total) of an input into equal spans of at most about `size` stored bytes."""
    parts = min(max(1, -(-input.size // size)), max(1, total))
    if parts == 1:
        return [((Span(input=input),), input.size)]
    cuts = [part * total // parts for part in range(parts + 1)]
    return [
        ((Span(input=input, start=start, stop=stop),), input.size // parts) for start, stop in pairwise(cuts)
    ]


def checked_text(value: object, place: str) -> str:
    """Give a value back that is text and has a UTF-8 form; a Fault says which of the two it lacks."""
    if value is None:
        raise Fault("null", place=place, must="must hold text", got="null", cure="filter the input")
    if not isinstance(value, str):
        kind = type(value).__name__
        raise Fault("not_text", place=place, must="must hold text", got=kind, cure="name a field of text")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError as error:
            got = f"the lone surrogate \\u{ord(value[error.start]):04x} at character {error.start}"
            raise Fault(
                "surrogates", place=place, must="must be text that has a UTF-8 form", got=got,
                cure="mend the escape",
            ) from error  # fmt: skip
    return value


def checked_id(value: object, place: str) -> str:
    """Give an id, text or integer, as text."""
    if isinstance(value, str) and value:
        return checked_text(value, place)
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    raise Fault(
        "no_id", place=place, must="the id must be text or an integer",
        got="null" if value is None else repr(value)[:40], cure="name another id field, or none",
    )  # fmt: skip
