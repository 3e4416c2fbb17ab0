"""Which documents do MosaicML streaming shards of tokens hold?

A folder has `index.json` and the shards that it tells of; ProLong's have the columns `input_ids` and
`indices`, the spans of the documents inside a record.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from typing import Any, Literal

import numpy as np

from ..counts import Counts
from ..errors import DataError
from .mds_shard import INDEX, Shard, decoded_array, read_index
from .paths import list_inputs, read_with
from .source import Fault, Input, Piece, Raw, SourceReader, Span, TokenReading, Unit, source
from .tokens import as_tokens

SHARDS = (".mds", *(f".mds.{packed}" for packed in ("zstd", "zst", "gz", "bz2", "br", "snappy")))
"""Endings that files of shards have."""


class MdsReading(TokenReading):
    """MosaicML streaming shards of tokens, as ProLong published them."""

    tokens: str = "input_ids"
    """Column of the tokens."""
    spans: str | None = "indices"
    """Column of (start, stop) of the documents inside a record; empty: the record is one document."""
    dtype: Literal["uint16", "int32", "uint32", "int64"] | None = None
    """Of a tokens column that is plain bytes; other columns tell it themselves."""


@source("mds")
@dataclass(frozen=True, kw_only=True)
class MdsReader(SourceReader):
    """Read records of tokens, each one document or several."""

    source: MdsReading

    def inputs(self, left_out: Counts | None = None) -> list[Input]:
        """One input an index, with its shards; an index below another is part of that one."""
        paths = [path.removesuffix(f"/{INDEX}") for path in self.source.paths]
        listed = list_inputs(paths, where=self.where, suffixes=(INDEX, *SHARDS), left_out=left_out)
        folders = {input.url.removesuffix(INDEX): input for input in listed if input.url.endswith(INDEX)}
        inputs = [
            self._with_shards(input)
            for folder, input in folders.items()
            if not any(folder != other and folder.startswith(other) for other in folders)
        ]
        if left_out is not None:
            told = {url for input in inputs for url in input.beside}
            for input in listed:
                if not input.url.endswith(INDEX) and input.url not in told:
                    left_out.add("not_in_index", files=1, bytes=input.size)
        return inputs

    def _with_shards(self, input: Input) -> Input:
        """Give an index with the files of its shards, as they are read: unpacked where both forms are
        there."""
        shards = self._shards(input)
        whole = replace(
            input,
            name=input.name.removesuffix(f"/{INDEX}"),
            size=sum(shard.stored for shard in shards),
        )
        must = f"be there, since {input.url} tells of it"
        return read_with(whole, [shard.file for shard in shards], must=must, cure="fetch it")

    def pieces(self, input: Input, size: int) -> Iterator[Piece]:
        """Cut between shards; a span counts records through all shards of its index."""
        for shard in self._shards(input):
            yield (Span(input=input, start=shard.first, stop=shard.first + shard.records),), shard.stored

    def read(self, unit: Unit, skip: int = 0) -> Iterator[Raw]:
        for span in unit.spans:
            for shard in self._shards(span.input):
                inside = shard.first >= span.start and (span.stop is None or shard.first < span.stop)
                if inside and not self.source.spans and skip >= shard.records:
                    skip -= shard.records
                elif inside:
                    for number, record in shard.read():
                        place = f"{shard.url}, record {number}"
                        documents = self._documents(record, shard.encodings, place)
                        for at in range(skip, len(documents)):
                            yield self._raw(documents[at], at, span.input.name, number, place)
                        skip = max(0, skip - len(documents))

    def _raw(self, document: np.ndarray | Fault, at: int, name: str, number: int, place: str) -> Raw:
        id = f"{name}:{number}" if not self.source.spans else f"{name}:{number}:{at}"
        content = partial(_content, document, place)
        return self.raw(content, id=id, input=name, start=number, stop=number + 1)

    def _documents(
        self, record: dict[str, np.ndarray], encodings: dict[str, str], place: str
    ) -> list[np.ndarray | Fault]:
        """Give views of a record's documents, or the one fault that it has."""
        try:
            encoding = encodings[self.source.tokens]
            if encoding == "bytes":
                encoding = f"ndarray:{self.source.dtype}:-1"
            tokens = decoded_array(record[self.source.tokens], encoding, place).reshape(-1)
            if not self.source.spans:
                return [tokens]
            pairs = decoded_array(record[self.source.spans], encodings[self.source.spans], place)
            edges = pairs.astype(np.int64).reshape(-1)
            in_order = pairs.ndim == 2 and pairs.shape[1] == 2 and not (np.diff(edges, prepend=0) < 0).any()
            if not in_order or edges.max(initial=0) > len(tokens):
                raise Fault(
                    "bad_spans", place=place, got=f"{pairs.tolist()}"[:80],
                    must=f"{self.source.spans} must be pairs of start and stop in order, up to {len(tokens)}",
                    cure="write it anew or set spans to empty text",
                )  # fmt: skip
        except Fault as fault:
            return [fault]
        return [tokens[start:stop] for start, stop in pairs.tolist()]

    def _shards(self, input: Input) -> list[Shard]:
        """Read the index; a DataError where the columns are not there or hold no integers."""
        shards = read_index(input)
        wanted = {"tokens": self.source.tokens, "spans": self.source.spans}
        named = [(key, name) for key, name in wanted.items() if name]
        for shard, (key, name) in product(shards, named):
            encoding = shard.encodings.get(name)
            if encoding is None:
                raise DataError(
                    f"{input.url}: must have the column {name} ({self.where}.{key}), got "
                    f"{', '.join(shard.encodings)}; "
                    f"name one of these{', or empty text' if key == 'spans' else ''}"
                )
            kind = encoding.split(":")
            of_integers = kind[0] == "ndarray" and (len(kind) == 1 or "int" in kind[1])
            if not of_integers and not (encoding == "bytes" and key == "tokens" and self.source.dtype):
                raise DataError(
                    f"{input.url}: the column {name} must be an ndarray of integers"
                    f" (or bytes, with {self.where}.dtype), got {encoding}; name another"
                )
        return shards


def _content(document: np.ndarray | Fault, place: str) -> dict[str, Any]:
    if isinstance(document, Fault):
        raise document
    return {"tokens": as_tokens(document, place)}
