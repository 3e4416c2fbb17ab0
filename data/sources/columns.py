"""How do Arrow columns of text and ids become documents?"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial

import pyarrow as pa

from ..errors import DataError
from .blocks import BLOCK, decoded, text_of
from .faults import Fault, Policy, checked_id
from .source import Input, Raw

BATCH = 16 << 20
"""Bytes of text that are aimed at when rows are read together."""


@dataclass(frozen=True, kw_only=True)
class Columns:
    """The columns that a recipe names."""

    text: str
    id: str | None
    policy: Policy

    @property
    def names(self) -> list[str]:
        return [self.text] if self.id in (None, self.text) else [self.text, self.id]

    def check(self, schema: pa.Schema, url: str) -> None:
        """Refuse a file without these columns, or whose text column holds something else."""
        where = self.policy.where
        for key, name in (("text", self.text), ("id", self.id)):
            if name is not None and name not in schema.names:
                raise DataError(
                    f"{url}: must have the column {name} ({where}.{key}), got {', '.join(schema.names)}; "
                    "name one of these"
                )
        kind = schema.field(self.text).type
        kind = kind.value_type if pa.types.is_dictionary(kind) else kind
        if not (pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)):
            raise DataError(
                f"{url}: the column {self.text} ({where}.text) must hold strings, got {kind}; name another"
            )

    def raws(self, table: pa.Table | pa.RecordBatch, input: Input, first: int) -> Iterator[Raw]:
        """Give the rows as documents; `first` is the number of the first one."""
        texts = table.column(self.text).cast(pa.large_string())
        ids = None if self.id is None else table.column(self.id)
        for at in range(table.num_rows):
            row = first + at
            spot = {"input": input.name, "start": row, "stop": row + 1}
            own, place = f"{input.name}:{row}", f"{input.url}, row {row}"
            try:
                text = _cell(texts[at], place)
                id_ = own if ids is None else checked_id(ids[at].as_py(), place)
            except Fault as fault:
                yield self.policy.refuse(fault, id=own, **spot)
            else:
                yield Raw(id=id_, text=text, **spot)


def rows_together(stored: int, rows: int) -> int:
    """Say how many rows are read at once so that their text is about BATCH bytes."""
    return max(1, min(1024, BATCH * rows // max(1, stored)))


def _cell(value: pa.Scalar, place: str) -> Iterable[str]:
    buffer = value.as_buffer()
    if buffer is None:
        raise Fault("null", place=place, must="must hold text", got="null", cure="filter the input")
    return text_of(partial(_blocks, memoryview(buffer), place), len(buffer))


def _blocks(content: memoryview, place: str) -> Iterator[str]:
    return decoded((bytes(content[at : at + BLOCK]) for at in range(0, len(content), BLOCK)), place)
