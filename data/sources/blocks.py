"""How is a text of any length read without ever being one object?"""

from __future__ import annotations

import codecs
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from .faults import Fault

BLOCK = 1 << 20
"""Bytes that are decoded at a time."""
SMALL = 4 * BLOCK
"""A document of at most so many bytes is one block."""


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
