"""What must hold of tokens that somebody else made, and how are they cut out of one flat file?"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from ..errors import DataError
from .cutting import Piece, gathered
from .faults import Fault, Policy
from .source import Input, Raw, Span, Unit
from .stored import opened

LARGEST = 2**32 - 1


def as_tokens(values: np.ndarray, place: str) -> np.ndarray:
    """Give integers of any width as uint32; a Fault names the first that is none of them."""
    if values.size and values.dtype.kind == "i" and values.min() < 0:
        wrong = int(values[values < 0][0])
        raise Fault(
            "bad_token", place=place, must="a token must be 0 or more", got=str(wrong), cure="write it anew"
        )  # fmt: skip
    if values.size and values.dtype.itemsize == 8 and values.max() > LARGEST:
        raise Fault(
            "bad_token", place=place, must=f"a token must be at most {LARGEST}", got=str(values.max()),
            cure="write it anew",
        )  # fmt: skip
    return values.astype(np.uint32)


@dataclass(frozen=True, kw_only=True)
class Runs:
    """Where the documents lie in a flat file of tokens."""

    dtype: np.dtype
    starts: np.ndarray
    stops: np.ndarray
    """int64 bytes of each document."""

    def check(self, input: Input, index: str) -> None:
        """Refuse an index whose documents overlap or leave the file, or a file that it does not fill."""
        end = int(self.stops[-1]) if len(self.stops) else 0
        if end != input.size:
            raise DataError(
                f"{input.url}: must hold the {end:,} bytes that {index} tells of, got {input.size:,}; "
                "fetch both again"
            )
        edges = np.ravel(np.stack([self.starts, self.stops], axis=1))
        if len(edges) and (edges[0] < 0 or bool((np.diff(edges) < 0).any())):
            row = max(0, int(np.argmax(np.diff(edges, prepend=0) < 0)) // 2)
            raise DataError(
                f"{index}: documents must follow each other, got document {row} at byte "
                f"{int(self.starts[row]):,} to {int(self.stops[row]):,}; write it anew"
            )

    def pieces(self, input: Input, size: int) -> list[Piece]:
        """Cut the documents, in order, where another `size` bytes are full."""
        parts = max(1, -(-input.size // size))
        if parts == 1 or not len(self.starts):
            return [((Span(input=input),), input.size)]
        marks = np.arange(parts) * input.size // parts
        cuts = np.unique(np.append(np.searchsorted(self.starts, marks), len(self.starts)))
        edges = np.append(self.starts, input.size)
        return [
            (
                (Span(input=input, start=int(start), stop=int(stop)),),
                int(edges[stop] - edges[start]),
            )
            for start, stop in pairwise(cuts)
        ]

    def raws(self, span: Span, skip: int, policy: Policy) -> Iterator[Raw]:
        """Read the documents of a span, each by itself."""
        name, url = span.input.name, span.input.url
        stop = len(self.starts) if span.stop is None else span.stop
        with opened(url) as file:
            for row in range(span.start + skip, stop):
                first, last = int(self.starts[row]), int(self.stops[row])
                file.seek(first)
                spot = {"id": f"{name}:{row}", "input": name, "start": row, "stop": row + 1}
                try:
                    values = np.frombuffer(file.read(last - first), self.dtype)
                    yield Raw(tokens=as_tokens(values, f"{url}, document {row}"), **spot)
                except Fault as fault:
                    yield policy.refuse(fault, **spot)

    def count(self, span: Span) -> int:
        return (len(self.starts) if span.stop is None else span.stop) - span.start


def cut_runs(index: Callable[[Input], Runs], inputs: Sequence[Input], size: int) -> list[Unit]:
    """Cut flat files of tokens into units of about `size` bytes, between documents."""
    return gathered((piece for input in inputs for piece in index(input).pieces(input, size)), size)


def read_runs(index: Callable[[Input], Runs], unit: Unit, skip: int, policy: Policy) -> Iterator[Raw]:
    """Read the documents of a unit of flat files, after the first `skip`."""
    for span in unit.spans:
        runs = index(span.input)
        left = min(skip, runs.count(span))
        skip -= left
        yield from runs.raws(span, left, policy)
