"""Which documents are the rows of Parquet files, or of Hugging Face datasets that were saved to disk?"""

from __future__ import annotations

import glob
import json
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ..counts import Counts
from ..errors import DataError
from .files import BUFFER, opened
from .paths import list_inputs, own_name, read_with, written
from .source import (
    Fault,
    Input,
    Piece,
    Raw,
    Reading,
    SourceReader,
    Span,
    Unit,
    borders,
    checked_id,
    evenly,
    source,
)
from .text import BLOCK, decoded, text_of

BATCH = 16 << 20
"""Bytes of text that are aimed at when rows are read together."""
STATE = "state.json"
"""Lies beside the data of a saved dataset and holds a fingerprint of them."""
SPLITS = "dataset_dict.json"

Rows = tuple[int, int, Callable[[], Iterable[Any]]]
"""First row, last row and one, and how they are read."""


class ParquetReading(Reading):
    """One row is one document."""

    text: str = "text"
    """Column of the text."""
    id: str | None = None
    """Column of the id; None numbers the rows."""


class DatasetReading(Reading):
    """A Hugging Face dataset saved to disk (`save_to_disk`), one row a document."""

    split: str | None = None
    """Of a DatasetDict."""
    text: str = "text"
    """Column of the text."""
    id: str | None = None
    """Column of the id; None numbers the rows."""


@dataclass(frozen=True, kw_only=True)
class RowReader(SourceReader):
    """What both kinds share: rows of Arrow columns become documents."""

    source: ParquetReading | DatasetReading

    @property
    def columns(self) -> list[str]:
        """The columns that are read."""
        return list(dict.fromkeys(name for name in (self.source.text, self.source.id) if name is not None))

    def rows(self, span: Span) -> Iterator[Rows]:
        """Give the rows of a span in runs that can be left out unread."""
        raise NotImplementedError

    def read(self, unit: Unit, skip: int = 0) -> Iterator[Raw]:
        for span in unit.spans:
            with _whole(span.input):
                for first, stop, tables in self.rows(span):
                    if skip >= stop - first:
                        skip -= stop - first
                        continue
                    for table in tables():
                        left = table.slice(min(skip, len(table)))
                        skip -= len(table) - len(left)
                        yield from self._documents(left, span.input, first + len(table) - len(left))
                        first += len(table)

    def _documents(self, table: pa.Table | pa.RecordBatch, input: Input, first: int) -> Iterator[Raw]:
        """Give rows as documents; `first` is the number of the first one."""
        texts = table.column(self.source.text).cast(pa.large_string())
        ids = [None] * len(texts) if self.source.id is None else table.column(self.source.id)
        for row, (text, id) in enumerate(zip(texts, ids, strict=True), first):
            content = partial(_content, text, id, f"{input.url}, row {row}")
            yield self.raw(content, id=f"{input.name}:{row}", input=input.name, start=row, stop=row + 1)

    def check(self, schema: pa.Schema, url: str) -> None:
        """Refuse data without the columns, or whose text column holds something else."""
        for key, name in (("text", self.source.text), ("id", self.source.id)):
            if name is not None and name not in schema.names:
                raise DataError(
                    f"{url}: must have the column {name} ({self.where}.{key}), got "
                    f"{', '.join(schema.names)}; name one of these"
                )
        kind = schema.field(self.source.text).type
        kind = kind.value_type if pa.types.is_dictionary(kind) else kind
        if not (pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)):
            raise DataError(
                f"{url}: the column {self.source.text} ({self.where}.text) must hold strings, got {kind}; "
                "name another"
            )


@source("parquet")
@dataclass(frozen=True, kw_only=True)
class ParquetReader(RowReader):
    """Read Parquet by row groups, of the columns that are needed alone."""

    source: ParquetReading

    def inputs(self, left_out: Counts | None = None) -> list[Input]:
        suffixes = (".parquet", ".pq")
        return list_inputs(self.source.paths, where=self.where, suffixes=suffixes, left_out=left_out)

    def pieces(self, input: Input, size: int) -> Iterator[Piece]:
        """Cut larger files between row groups, whose bytes are those of the columns that are read."""
        if input.size <= size:
            yield (Span(input=input),), input.size
            return
        with self._file(input) as file:
            groups = list(self._groups(file))
        for first, last, weight in borders([stored for *_, stored in groups], size):
            yield (Span(input=input, start=groups[first][0], stop=groups[last - 1][1]),), weight

    def rows(self, span: Span) -> Iterator[Rows]:
        with self._file(span.input) as file:
            for group, (first, stop, stored) in enumerate(self._groups(file)):
                if first >= span.start and (span.stop is None or first < span.stop):
                    rows = _rows_together(stored, stop - first)
                    yield (
                        first,
                        stop,
                        partial(file.iter_batches, rows, row_groups=[group], columns=self.columns),
                    )

    def _groups(self, file: pq.ParquetFile) -> Iterator[tuple[int, int, int]]:
        """Give first row, last row and one, and the uncompressed bytes that are read of each row group."""
        first = 0
        for number in range(file.num_row_groups):
            group = file.metadata.row_group(number)
            columns = [group.column(at) for at in range(group.num_columns)]
            read = [column for column in columns if column.path_in_schema.split(".")[0] in self.columns]
            yield first, first + group.num_rows, sum(column.total_uncompressed_size for column in read)
            first += group.num_rows

    @contextmanager
    def _file(self, input: Input) -> Iterator[pq.ParquetFile]:
        with _whole(input), opened(input.url) as stored:
            file = pq.ParquetFile(stored, buffer_size=BUFFER)
            self.check(file.schema_arrow, input.url)
            yield file


@source("dataset")
@dataclass(frozen=True, kw_only=True)
class SavedReader(RowReader):
    """Read folders that `save_to_disk` wrote on this machine."""

    source: DatasetReading

    def inputs(self, left_out: Counts | None = None) -> list[Input]:
        """One input a folder, known by the file that names its state."""
        inputs: dict[str, Input] = {}
        for entry in self.source.paths:
            folders = sorted(glob.glob(entry)) if glob.has_magic(entry) else [entry]
            for folder in folders or [entry]:
                input = self._input(Path(os.path.expanduser(folder)), left_out)
                if inputs.setdefault(input.name, input).url != input.url:
                    raise DataError(
                        f"{self.where}.paths: every folder must have its own name, got {input.name} twice; "
                        "rename one"
                    )
        return list(inputs.values())

    def pieces(self, input: Input, size: int) -> list[Piece]:
        return evenly(input, len(_load(input)), size)

    def rows(self, span: Span) -> Iterator[Rows]:
        data = _load(span.input)
        self.check(data.features.arrow_schema, span.input.url)
        data = data.select_columns(self.columns).with_format("arrow")
        step = _rows_together(span.input.size, len(data))
        end = len(data) if span.stop is None else span.stop
        for first in range(span.start, end, step):
            stop = min(first + step, end)
            yield first, stop, lambda first=first, stop=stop: [data[first:stop]]

    def _input(self, folder: Path, left_out: Counts | None) -> Input:
        split, name = self.source.split, own_name(folder)
        if (folder / SPLITS).is_file():
            known = sorted(path.parent.name for path in folder.glob(f"*/{STATE}"))
            if split not in known:
                raise DataError(
                    f"{self.where}.split: must be a split of {folder}, got {split or 'none'}; "
                    f"name one of {', '.join(known)}"
                )
            folder, name = folder / split, f"{name}/{split}"
        elif not (folder / STATE).is_file():
            raise DataError(
                f"{self.where}.paths: must be a folder that save_to_disk wrote, got {folder}; check the path"
            )
        elif split is not None:
            raise DataError(
                f"{self.where}.split: must be left out for {folder}, which has no splits, got {split}; "
                "remove it"
            )
        files = _data_files(folder)
        for path in folder.glob("*.arrow"):
            if left_out is not None and path not in files:
                left_out.add("not_in_index", files=1, bytes=path.stat().st_size)
        size = sum(path.stat().st_size for path in files if path.is_file())
        state = Input(name=written(name), url=str(folder / STATE), size=size)
        must, cure = f"be there, since {state.url} tells of it", "save it again"
        return read_with(state, list(map(str, files)), must=must, cure=cure)


def _data_files(folder: Path) -> list[Path]:
    """Read which files of a saved dataset hold its rows."""
    try:
        return [folder / file["filename"] for file in json.loads((folder / STATE).read_text())["_data_files"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{folder / STATE}: must name the data files of a saved dataset, got {error!r}; save it again"
        ) from error


def _load(input: Input) -> Any:
    from datasets import Dataset  # seconds to import, and other kinds are read without it

    folder = Path(input.url).parent
    try:
        return Dataset.load_from_disk(str(folder))
    except (OSError, ValueError, KeyError) as error:
        raise DataError(
            f"{folder}: must be a whole saved dataset, got {error}; save it again or leave it out"
        ) from error


@contextmanager
def _whole(input: Input) -> Iterator[None]:
    """Turn what torn data raises into a DataError."""
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{input.url}: must be whole, got {error}; fetch it again or leave it out") from error


def _rows_together(stored: int, rows: int) -> int:
    """Say how many rows are read at once so that their text is about BATCH bytes."""
    return max(1, min(1024, BATCH * rows // max(1, stored)))


def _content(text: pa.Scalar, id: pa.Scalar | None, place: str) -> dict[str, Any]:
    """Give the text of a cell, and the id where a column has it."""
    buffer = text.as_buffer()
    if buffer is None:
        raise Fault("null", place=place, must="must hold text", got="null", cure="filter the input")
    blocks = text_of(partial(_blocks, memoryview(buffer), place), len(buffer))
    return {"text": blocks} | ({} if id is None else {"id": checked_id(id.as_py(), place)})


def _blocks(content: memoryview, place: str) -> Iterator[str]:
    return decoded((bytes(content[at : at + BLOCK]) for at in range(0, len(content), BLOCK)), place)
