"""What does every kind of source give, and what is asked of it?"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np


@dataclass(frozen=True, kw_only=True)
class Input:
    """One file that is read; a `name` starts with the folder's own name, never with its place here."""

    name: str
    url: str
    size: int
    """Bytes as stored."""
    stamp: str = ""
    """What changes with the file where it is known cheaply: modification time or etag."""


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


class Reader(Protocol):
    """Read one source of a recipe."""

    def inputs(self) -> list[Input]:
        """Every input in canonical order; a DataError where a path names none."""
        ...

    def units(self, inputs: Sequence[Input], size: int) -> list[Unit]:
        """Cut the inputs into units of about `size` stored bytes, in order, each byte exactly once."""
        ...

    def read(self, unit: Unit, skip: int = 0) -> Iterator[Raw]:
        """Give the documents of a unit in order, after the first `skip` of them, which cost no parsing.

        Broken content is a DataError that names file and row, or a Raw with a `fault`, as `on_error` says.
        """
        ...
