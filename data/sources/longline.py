"""How is a JSON line with a text of gigabytes read without holding it?

Long strings are found by a regular expression over the mapped line and replaced by a short name; what is left
is ordinary JSON, and the string that stands where the text should be is decoded block by block.
"""

from __future__ import annotations

import json
import mmap
import re
import uuid
from collections.abc import Callable, Iterator

from .blocks import BLOCK, Text, decoded
from .faults import Fault, checked_text

STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)
WHOLE = re.compile(
    rb"(?:[^\\]{1,256}+|\\u[dD][89abAB]..\\u[dD][c-fC-F]..|\\u....|\\[^u]){1,4096}+", re.DOTALL
)
"""As much of a string as is no more than about BLOCK bytes and ends in no escape or surrogate pair."""


def loads_long(line: mmap.mmap, loads: Callable[[str], object], place: str) -> tuple[object, dict[str, Text]]:
    """Parse a mapped line; also give the long strings by the names that stand for them in the record."""
    names: dict[str, Text] = {}
    kept: list[bytes] = []
    done = 0
    for match in STRING.finditer(line):
        first, last = match.span()
        if last - first > BLOCK:
            name = uuid.uuid4().hex
            names[name] = Text(lambda first=first, last=last: _literal(line, first + 1, last - 1, place))
            kept += [line[done:first], f'"{name}"'.encode()]
            done = last
    kept.append(line[done:])
    rest = "".join(decoded(kept, place))
    return loads(rest.removeprefix("\ufeff")), names


def _literal(line: mmap.mmap, first: int, last: int, place: str) -> Iterator[str]:
    """Decode the inside of a string."""
    for text in decoded(_parts(line, first, last), place):
        try:
            block = json.loads(f'"{text}"')
        except ValueError as error:
            raise Fault(
                "not_json", place=place, must="must be JSON", got=str(error), cure="mend the line"
            ) from error
        yield checked_text(block, place)


def _parts(line: mmap.mmap, first: int, last: int) -> Iterator[bytes]:
    """Cut the inside of a string between escapes; what is none stays, for the parser to name."""
    while first < last:
        match = WHOLE.match(line, first, last)
        stop = match.end() if match else min(last, first + BLOCK)
        yield line[first:stop]
        first = stop
