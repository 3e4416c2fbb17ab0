"""Which documents do MosaicML streaming shards of tokens hold?

A folder has `index.json` and the shards that it tells of; ProLong's have the columns `input_ids` and
`indices`, the spans of the documents inside a record.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..errors import DataError
from .cutting import gathered
from .faults import Fault, Policy
from .mds_shard import INDEX, Shard, decoded_array, read_index
from .paths import list_inputs
from .source import Input, Raw, Span, Unit
from .spec import MdsReading
from .tokens import as_tokens


@dataclass(frozen=True, kw_only=True)
class MdsReader:
    """Read records of tokens, each one document or several."""

    source: MdsReading
    where: str

    def inputs(self) -> list[Input]:
        """One input an index, with the bytes of its shards; an index below another is part of that one."""
        paths = [path.removesuffix(f"/{INDEX}") for path in self.source.paths]
        found = list_inputs(paths, where=self.where, suffixes=(INDEX,))
        found = [input for input in found if input.url.endswith(INDEX)]
        folders = {input.url.removesuffix(INDEX) for input in found}
        inputs: list[Input] = []
        for input in found:
            own = input.url.removesuffix(INDEX)
            if not any(own != folder and own.startswith(folder) for folder in folders):
                stored = sum(shard.stored for shard in self._shards(input))
                inputs.append(replace(input, name=input.name.removesuffix(f"/{INDEX}"), size=stored))
        return inputs

    def units(self, inputs: Sequence[Input], size: int) -> list[Unit]:
        """Cut between shards; a span counts records through all shards of its index."""
        return gathered(
            (
                ((Span(input=input, start=shard.first, stop=shard.first + shard.records),), shard.stored)
                for input in inputs
                for shard in self._shards(input)
            ),
            size,
        )

    def read(self, unit: Unit, skip: int = 0) -> Iterator[Raw]:
        for span in unit.spans:
            for shard in self._shards(span.input):
                inside = shard.first >= span.start and (span.stop is None or shard.first < span.stop)
                if inside and self.source.spans is None and skip >= shard.records:
                    skip -= shard.records
                elif inside:
                    for number, record in shard.read():
                        found = self._found(record, shard, number)
                        yield from self._raws(found[skip:], min(skip, len(found)), shard, number)
                        skip -= min(skip, len(found))

    def _raws(
        self, found: Sequence[np.ndarray | Fault], first: int, shard: Shard, number: int
    ) -> Iterator[Raw]:
        policy = Policy(where=self.where, on_error=self.source.on_error)
        name = shard.input.name
        for at, document in enumerate(found, first):
            id_ = f"{name}:{number}" if self.source.spans is None else f"{name}:{number}:{at}"
            spot = {"id": id_, "input": name, "start": number, "stop": number + 1}
            try:
                if isinstance(document, Fault):
                    raise document
                yield Raw(tokens=as_tokens(document, _place(shard, number)), **spot)
            except Fault as fault:
                yield policy.refuse(fault, **spot)

    def _found(self, record: dict[str, np.ndarray], shard: Shard, number: int) -> list[np.ndarray | Fault]:
        """Give views of a record's documents, or the one fault that it has."""
        place = _place(shard, number)
        try:
            encoding = shard.encodings[self.source.tokens]
            if encoding == "bytes":
                encoding = f"ndarray:{self.source.dtype}:-1"
            tokens = decoded_array(record[self.source.tokens], encoding, place).reshape(-1)
            if self.source.spans is None:
                return [tokens]
            pairs = decoded_array(record[self.source.spans], shard.encodings[self.source.spans], place)
            edges = pairs.astype(np.int64).reshape(-1)
            in_order = pairs.ndim == 2 and pairs.shape[1] == 2 and not (np.diff(edges, prepend=0) < 0).any()
            if not in_order or edges.max(initial=0) > len(tokens):
                raise Fault(
                    "bad_spans", place=place, got=f"{pairs.tolist()}"[:80],
                    must=f"{self.source.spans} must be pairs of start and stop in order, up to {len(tokens)}",
                    cure="write it anew or set spans to null",
                )  # fmt: skip
        except Fault as fault:
            return [fault]
        return [tokens[start:stop] for start, stop in pairs.tolist()]

    def _shards(self, input: Input) -> list[Shard]:
        """Read the index; a DataError where the columns are not there or hold no integers."""
        shards = read_index(input)
        wanted = {"tokens": self.source.tokens, "spans": self.source.spans}
        for shard in shards:
            for key, name in wanted.items():
                if name is None:
                    continue
                encoding = shard.encodings.get(name)
                if encoding is None:
                    raise DataError(
                        f"{input.url}: must have the column {name} ({self.where}.{key}), got "
                        f"{', '.join(shard.encodings)}; name one of these"
                        f"{', or null' if key == 'spans' else ''}"
                    )
                if encoding == "bytes" and key == "tokens" and self.source.dtype:
                    continue
                kind = encoding.split(":")
                if kind[0] != "ndarray" or (len(kind) > 1 and "int" not in kind[1]):
                    raise DataError(
                        f"{input.url}: the column {name} must be an ndarray of integers"
                        f" (or bytes, with {self.where}.dtype), got {encoding}; name another"
                    )
        return shards


def _place(shard: Shard, number: int) -> str:
    return f"{shard.url}, record {number}"
