"""Which documents does Megatron's pair of `.bin` and `.idx` hold?

`.idx`, little-endian: 9 bytes of magic, u64 version, u8 dtype, u64 sequences s, u64 document borders d, then
int32[s] lengths in tokens, int64[s] byte positions in `.bin`, int64[d] borders: document i is the sequences
[border i, border i + 1). Stores of several modes add int8[s].
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..errors import DataError
from .faults import Policy
from .paths import list_inputs
from .source import Input, Raw, Unit
from .spec import MegatronReading
from .stored import content, size_and_stamp
from .tokens import Runs, cut_runs, read_runs

MAGIC = b"MMIDIDX\x00\x00"
HEAD = struct.Struct("<9sQBQQ")
DTYPES = {1: "<u1", 2: "<i1", 3: "<i2", 4: "<i4", 5: "<i8", 6: "<f8", 7: "<f4", 8: "<u2"}


@dataclass(frozen=True, kw_only=True)
class MegatronReader:
    """Read the tokens that Megatron or a tool beside it preprocessed."""

    source: MegatronReading
    where: str

    def inputs(self) -> list[Input]:
        """One input a pair, called after its `.bin`."""
        paths = [_index_of(path) for path in self.source.paths]
        indices = list_inputs(paths, where=self.where, suffixes=(".idx",))
        return [_pair(index) for index in indices if index.name.endswith(".idx")]

    def units(self, inputs: Sequence[Input], size: int) -> list[Unit]:
        return cut_runs(read_index, inputs, size)

    def read(self, unit: Unit, skip: int = 0) -> Iterator[Raw]:
        policy = Policy(where=self.where, on_error=self.source.on_error)
        return read_runs(read_index, unit, skip, policy)


def read_index(input: Input) -> Runs:
    """Read where the documents lie; a DataError names what of `.idx` or `.bin` is torn or unknown."""
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
    runs.check(input, url)
    return runs


def _index_of(path: str) -> str:
    """Name the index by which a pair is found: a path is that, the `.bin`, or what both begin with."""
    if path.endswith((".bin", ".idx")):
        return f"{path[:-4]}.idx"
    return f"{path}.idx" if size_and_stamp(f"{path}.idx") else path


def _pair(index: Input) -> Input:
    """Give the `.bin` of an index; what changes with either stands in its stamp."""
    url = f"{index.url.removesuffix('.idx')}.bin"
    facts = size_and_stamp(url)
    if facts is None:
        raise DataError(f"{url}: must lie beside {index.url}, got no such file; fetch it")
    size, stamp = facts
    name = f"{index.name.removesuffix('.idx')}.bin"
    return replace(index, name=name, url=url, size=size, stamp=f"{stamp} {index.stamp}")
