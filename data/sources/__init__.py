"""Where do raw documents come from? One file a kind; procedural kinds (facts, repeats) are drawn at planning
instead."""

from __future__ import annotations

from .arrow import ParquetReader
from .datatrove import DatatroveReader
from .jsonl import JsonlReader
from .mds import MdsReader
from .megatron import MegatronReader
from .saved import SavedReader
from .source import Raw, Reader
from .spec import (
    DatasetReading,
    DatatroveReading,
    FilesReading,
    JsonlReading,
    MdsReading,
    MegatronReading,
    ParquetReading,
    Reading,
)
from .text import FilesReader

READERS = {
    FilesReading: FilesReader,
    JsonlReading: JsonlReader,
    ParquetReading: ParquetReader,
    DatasetReading: SavedReader,
    MdsReading: MdsReader,
    MegatronReading: MegatronReader,
    DatatroveReading: DatatroveReader,
}

__all__ = ["READERS", "Raw", "Reader", "open_reader"]


def open_reader(source: Reading, *, where: str) -> Reader:
    """Give the reader of a source; `where` is its key in the recipe, for messages."""
    return next(reader for kind, reader in READERS.items() if isinstance(source, kind))(
        source=source, where=where
    )
