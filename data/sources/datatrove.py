"""Which documents does datatrove's `.ds` with `.ds.index` hold?

`.ds` is tokens of 2 or 4 bytes, `.ds.index` u64 ends of the documents in tokens, both little-endian. The
first line of `.ds.metadata`, if it is there, ends in the bytes of a token.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..errors import DataError
from .faults import Policy
from .paths import list_inputs
from .source import Input, Raw, Unit
from .spec import DatatroveReading
from .stored import content, size_and_stamp
from .tokens import Runs, cut_runs, read_runs

WIDTHS = {2: np.dtype("<u2"), 4: np.dtype("<u4")}


@dataclass(frozen=True, kw_only=True)
class DatatroveReader:
    """Read the tokens that datatrove's tokenizer step wrote."""

    source: DatatroveReading
    where: str

    def inputs(self) -> list[Input]:
        found = list_inputs(self.source.paths, where=self.where, suffixes=(".ds",))
        return [_with_index(input) for input in found if input.name.endswith(".ds")]

    def units(self, inputs: Sequence[Input], size: int) -> list[Unit]:
        return cut_runs(read_index, inputs, size)

    def read(self, unit: Unit, skip: int = 0) -> Iterator[Raw]:
        policy = Policy(where=self.where, on_error=self.source.on_error)
        return read_runs(read_index, unit, skip, policy)


def read_index(input: Input) -> Runs:
    """Read where the documents lie; a DataError where bytes, index and metadata do not agree."""
    url = f"{input.url}.index"
    index = content(url)
    if len(index) % 8:
        raise DataError(f"{url}: must be numbers of 8 bytes, got {len(index):,} bytes; fetch it again")
    ends = index.view("<u8").astype(np.int64)
    tokens = int(ends[-1]) if len(ends) else 0
    width = _width_told(input) or (input.size // tokens if tokens else 4)
    if width not in WIDTHS:
        raise DataError(
            f"{input.url}: a token must have 2 or 4 bytes, got {input.size:,} bytes for the {tokens:,} "
            f"tokens of {url}; fetch both again"
        )
    ends = ends * width
    runs = Runs(dtype=WIDTHS[width], starts=np.concatenate([[0], ends[:-1]])[: len(ends)], stops=ends)
    runs.check(input, url)
    return runs


def _width_told(input: Input) -> int | None:
    """Read the bytes of a token from the metadata; None where it does not tell."""
    url = f"{input.url}.metadata"
    if size_and_stamp(url) is None:
        return None
    last = content(url).tobytes().decode(errors="replace").split("\n")[0].rpartition("|")[2].strip()
    return int(last) if last.isdecimal() else None


def _with_index(input: Input) -> Input:
    facts = size_and_stamp(f"{input.url}.index")
    if facts is None:
        raise DataError(
            f"{input.url}.index: must tell where documents end, got no such file; write it (save_index) or "
            "fetch it"
        )
    return replace(input, stamp=f"{input.stamp} {facts[1]}")
