"""Which documents lie one behind another in a flat file of tokens, as Megatron and datatrove write it?

Each has an index beside it, all little-endian. Megatron's `.idx` tells of `.bin`: 9 bytes of magic, u64
version, u8 dtype, u64 sequences s, u64 document borders d, then int32[s] lengths in tokens, int64[s] byte
positions in `.bin`, int64[d] borders: document i is the sequences [border i, border i + 1). Stores of several
modes add int8[s]. datatrove's `.ds` is tokens of 2 or 4 bytes, `.ds.index` u64 ends of the documents in
tokens. The first line of `.ds.metadata`, if it is there, ends in the bytes of a token.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from typing import Any, BinaryIO

import numpy as np

from ..errors import DataError
from .paths import content, list_inputs, opened, size_and_stamp
from .source import Fault, Input, Piece, Raw, SourceReader, Span, TokenReading, Unit, source

LARGEST = 2**32 - 1
MAGIC = b"MMIDIDX\x00\x00"
HEAD = struct.Struct("<9sQBQQ")
DTYPES = {1: "<u1", 2: "<i1", 3: "<i2", 4: "<i4", 5: "<i8", 6: "<f8", 7: "<f4", 8: "<u2"}
WIDTHS = {2: np.dtype("<u2"), 4: np.dtype("<u4")}


class MegatronReading(TokenReading):
    """Megatron's `.bin` and `.idx`; a path names either, or what both begin with."""


class DatatroveReading(TokenReading):
    """datatrove's `.ds` with `.ds.index`."""


@dataclass(frozen=True, kw_only=True)
class Runs:
    """Where the documents lie in a flat file of tokens."""

    dtype: np.dtype
    starts: np.ndarray
    stops: np.ndarray
    """int64 bytes of each document."""

    def checked(self, input: Input, index: str) -> Runs:
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
        return self


@dataclass(frozen=True, kw_only=True)
class FlatReader(SourceReader):
    """What both kinds share, once their index is read; documents are counted."""

    source: TokenReading

    def index(self, input: Input) -> Runs:
        """Read where the documents lie; a DataError names what of the store is torn or unknown."""
        raise NotImplementedError

    def pieces(self, input: Input, size: int) -> list[Piece]:
        """Cut between documents, where another `size` bytes are full."""
        starts = self.index(input).starts
        parts = max(1, -(-input.size // size))
        if parts == 1 or not len(starts):
            return [((Span(input=input),), input.size)]
        marks = np.arange(parts) * input.size // parts
        cuts = np.unique(np.append(np.searchsorted(starts, marks), len(starts))).tolist()
        edges = np.append(starts, input.size)
        return [
            ((Span(input=input, start=start, stop=stop),), int(edges[stop] - edges[start]))
            for start, stop in pairwise(cuts)
        ]

    def read(self, unit: Unit, skip: int = 0) -> Iterator[Raw]:
        for span in unit.spans:
            name, url = span.input.name, span.input.url
            runs = self.index(span.input)
            stop = len(runs.starts) if span.stop is None else span.stop
            first = min(span.start + skip, stop)
            skip -= first - span.start
            with opened(url) as file:
                for row in range(first, stop):
                    tokens = partial(_content, file, runs, row, f"{url}, document {row}")
                    yield self.raw(tokens, id=f"{name}:{row}", input=name, start=row, stop=row + 1)


@source("megatron")
@dataclass(frozen=True, kw_only=True)
class MegatronReader(FlatReader):
    """Read the tokens that Megatron or a tool beside it preprocessed."""

    source: MegatronReading

    @property
    def paths(self) -> list[str]:
        return [_index_of(path) for path in self.source.paths]

    def inputs(self) -> list[Input]:
        """One input a pair, called after its `.bin`."""
        indices = list_inputs(self.paths, where=self.where, suffixes=(".idx",))
        return [_pair(index) for index in indices if index.name.endswith(".idx")]

    def index(self, input: Input) -> Runs:
        url = f"{input.url.removesuffix('.bin')}.idx"
        index = content(url)
        magic, version, code, sequences, borders = (
            HEAD.unpack(index[: HEAD.size].tobytes()) if len(index) >= HEAD.size else (b"", 0, 0, 0, 0)
        )
        if magic != MAGIC or version != 1:
            raise DataError(
                f"{url}: must start as a Megatron index of version 1, got {magic!r}, {version}; write it anew"
            )
        dtype = DTYPES.get(code)
        if dtype is None or "f" in dtype:
            raise DataError(
                f"{url}: must say that tokens are integers, got dtype code {code} ({dtype or 'unknown'}); "
                "write it anew"
            )
        wanted = HEAD.size + 12 * sequences + 8 * borders
        if len(index) not in (wanted, wanted + sequences):
            raise DataError(
                f"{url}: must have {wanted:,} bytes for {sequences:,} sequences, got {len(index):,}; "
                "fetch it again"
            )
        at = HEAD.size
        lengths = np.frombuffer(index[at : at + 4 * sequences].data, "<i4")
        positions = np.frombuffer(index[at + 4 * sequences : at + 12 * sequences].data, "<i8")
        edges = np.frombuffer(index[at + 12 * sequences : wanted].data, "<i8")
        whole = len(edges) and edges[0] == 0 and edges[-1] == sequences and (np.diff(edges) >= 0).all()
        ends = positions + lengths.astype(np.int64) * np.dtype(dtype).itemsize
        if not whole or (lengths < 0).any() or (positions[1:] != ends[:-1]).any():
            raise DataError(
                f"{url}: documents must be runs of sequences from 0 to {sequences:,} that follow each other, "
                f"got borders {edges[:3].tolist()}..{edges[-1:].tolist()}; write it anew"
            )
        places = np.append(positions, ends[-1] if sequences else 0)
        runs = Runs(dtype=np.dtype(dtype), starts=places[edges[:-1]], stops=places[edges[1:]])
        return runs.checked(input, url)


@source("datatrove")
@dataclass(frozen=True, kw_only=True)
class DatatroveReader(FlatReader):
    """Read the tokens that datatrove's tokenizer step wrote."""

    source: DatatroveReading

    def inputs(self) -> list[Input]:
        inputs = list_inputs(self.source.paths, where=self.where, suffixes=(".ds",))
        return [_with_index(input) for input in inputs if input.name.endswith(".ds")]

    def index(self, input: Input) -> Runs:
        url = f"{input.url}.index"
        index = content(url)
        if len(index) % 8:
            raise DataError(f"{url}: must be numbers of 8 bytes, got {len(index):,} bytes; fetch it again")
        ends = index.view("<u8").astype(np.int64)
        tokens = int(ends[-1]) if len(ends) else 0
        width = _width(input) or (input.size // tokens if tokens else 4)
        if width not in WIDTHS:
            raise DataError(
                f"{input.url}: a token must have 2 or 4 bytes, got {input.size:,} bytes for the {tokens:,} "
                f"tokens of {url}; fetch both again"
            )
        starts, stops = np.append(0, ends[:-1])[: len(ends)] * width, ends * width
        return Runs(dtype=WIDTHS[width], starts=starts, stops=stops).checked(input, url)


def as_tokens(values: np.ndarray, place: str) -> np.ndarray:
    """Give integers of any width as uint32; a Fault names the first that is none of them."""
    if values.size and values.dtype.kind == "i" and values.min() < 0:
        wrong = int(values[values < 0][0])
        raise Fault(
            "bad_token", place=place, must="a token must be 0 or more", got=str(wrong), cure="write it anew"
        )
    if values.size and values.dtype.itemsize == 8 and values.max() > LARGEST:
        raise Fault(
            "bad_token", place=place, must=f"a token must be at most {LARGEST}", got=str(values.max()),
            cure="write it anew",
        )  # fmt: skip
    return values.astype(np.uint32)


def _content(file: BinaryIO, runs: Runs, row: int, place: str) -> dict[str, Any]:
    first, last = int(runs.starts[row]), int(runs.stops[row])
    file.seek(first)
    return {"tokens": as_tokens(np.frombuffer(file.read(last - first), runs.dtype), place)}


def _index_of(path: str) -> str:
    """Name the index by which a Megatron pair is found: a path is that, the `.bin`, or what both begin
    with."""
    if path.endswith((".bin", ".idx")):
        return f"{path[:-4]}.idx"
    return f"{path}.idx" if size_and_stamp(f"{path}.idx") else path


def _pair(index: Input) -> Input:
    """Give the `.bin` of an index; what changes with either stands in its stamp."""
    url = f"{index.url.removesuffix('.idx')}.bin"
    size, stamp = _facts(url, f"lie beside {index.url}", "fetch it")
    name = f"{index.name.removesuffix('.idx')}.bin"
    return replace(index, name=name, url=url, size=size, stamp=f"{stamp} {index.stamp}")


def _with_index(input: Input) -> Input:
    _, stamp = _facts(f"{input.url}.index", "tell where documents end", "write it (save_index) or fetch it")
    return replace(input, stamp=f"{input.stamp} {stamp}")


def _facts(url: str, must: str, cure: str) -> tuple[int, str]:
    facts = size_and_stamp(url)
    if facts is None:
        raise DataError(f"{url}: must {must}, got no such file; {cure}")
    return facts


def _width(input: Input) -> int | None:
    """Read the bytes of a token from datatrove's metadata; None where it does not tell."""
    url = f"{input.url}.metadata"
    if size_and_stamp(url) is None:
        return None
    last = content(url).tobytes().decode(errors="replace").split("\n")[0].rpartition("|")[2].strip()
    return int(last) if last.isdecimal() else None
