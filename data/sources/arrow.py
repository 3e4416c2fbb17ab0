"""Which documents are the rows of Parquet files?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from ..errors import DataError
from .columns import Columns, rows_together
from .cutting import Piece, borders, gathered
from .faults import Policy
from .paths import list_inputs
from .source import Input, Raw, Span, Unit
from .spec import ParquetReading
from .stored import BUFFER, opened


@dataclass(frozen=True, kw_only=True)
class ParquetReader:
    """Read Parquet by row groups, of the columns that are needed alone."""

    source: ParquetReading
    where: str

    @property
    def columns(self) -> Columns:
        policy = Policy(where=self.where, on_error=self.source.on_error)
        return Columns(text=self.source.text, id=self.source.id, policy=policy)

    def inputs(self) -> list[Input]:
        return list_inputs(self.source.paths, where=self.where, suffixes=(".parquet", ".pq"))

    def units(self, inputs: Sequence[Input], size: int) -> list[Unit]:
        """Cut larger files between row groups, whose bytes are those of the columns that are read."""
        return gathered((piece for input in inputs for piece in self._pieces(input, size)), size)

    def _pieces(self, input: Input, size: int) -> list[Piece]:
        if input.size <= size:
            return [((Span(input=input),), input.size)]
        with self._file(input) as file:
            stored = [_stored(file, group, self.columns.names) for group in range(file.num_row_groups)]
            starts = _starts(file)
        return [
            ((Span(input=input, start=starts[first], stop=starts[last]),), weight)
            for first, last, weight in borders(stored, size)
        ]

    def read(self, unit: Unit, skip: int = 0) -> Iterator[Raw]:
        for span in unit.spans:
            with self._file(span.input) as file:
                starts = _starts(file)
                for group in range(file.num_row_groups):
                    first, last = starts[group], starts[group + 1]
                    if first < span.start or (span.stop is not None and first >= span.stop):
                        continue
                    if skip >= last - first:
                        skip -= last - first
                        continue
                    yield from self._group(file, group, span.input, first, skip)
                    skip = 0

    def _group(self, file: pq.ParquetFile, group: int, input: Input, first: int, skip: int) -> Iterator[Raw]:
        names = self.columns.names
        rows = rows_together(_stored(file, group, names), file.metadata.row_group(group).num_rows)
        for batch in file.iter_batches(rows, row_groups=[group], columns=names):
            left = batch.slice(min(skip, len(batch)))
            yield from self.columns.raws(left, input, first + len(batch) - len(left))
            skip -= len(batch) - len(left)
            first += len(batch)

    @contextmanager
    def _file(self, input: Input) -> Iterator[pq.ParquetFile]:
        try:
            with opened(input.url) as stored:
                file = pq.ParquetFile(stored, buffer_size=BUFFER)
                self.columns.check(file.schema_arrow, input.url)
                yield file
        except (pa.ArrowException, OSError) as error:
            raise DataError(
                f"{input.url}: must be a whole Parquet file, got {error}; fetch it again or leave it out"
            ) from error


def _starts(file: pq.ParquetFile) -> list[int]:
    """Give the first row of each row group, and the number of all rows."""
    starts = [0]
    for group in range(file.num_row_groups):
        starts.append(starts[-1] + file.metadata.row_group(group).num_rows)
    return starts


def _stored(file: pq.ParquetFile, group: int, names: Sequence[str]) -> int:
    """Sum the uncompressed bytes of the columns of a row group."""
    facts = file.metadata.row_group(group)
    columns = [facts.column(number) for number in range(facts.num_columns)]
    return sum(c.total_uncompressed_size for c in columns if c.path_in_schema.split(".")[0] in names)
