"""Which documents are the rows of a Hugging Face dataset that was saved to disk?"""

from __future__ import annotations

import glob
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import DataError
from .columns import Columns, rows_together
from .cutting import evenly, gathered
from .faults import Policy
from .source import Input, Raw, Unit
from .spec import DatasetReading

if TYPE_CHECKING:
    from datasets import Dataset

STATE = "state.json"
"""Lies beside the data and holds a fingerprint of them."""
SPLITS = "dataset_dict.json"


@dataclass(frozen=True, kw_only=True)
class SavedReader:
    """Read folders that `save_to_disk` wrote on this machine."""

    source: DatasetReading
    where: str

    @property
    def columns(self) -> Columns:
        policy = Policy(where=self.where, on_error=self.source.on_error)
        return Columns(text=self.source.text, id=self.source.id, policy=policy)

    def inputs(self) -> list[Input]:
        """One input a folder, known by the file that names its state."""
        inputs: dict[str, Input] = {}
        for entry in self.source.paths:
            folders = sorted(glob.glob(entry)) if glob.has_magic(entry) else [entry]
            for folder in folders or [entry]:
                input = self._input(Path(folder).expanduser())
                if inputs.setdefault(input.name, input).url != input.url:
                    raise DataError(
                        f"{self.where}.paths: every folder must have its own name, got {input.name} twice; "
                        "rename one"
                    )
        return list(inputs.values())

    def units(self, inputs: Sequence[Input], size: int) -> list[Unit]:
        return gathered(
            (piece for input in inputs for piece in evenly(input, len(_load(input)), size)), size
        )  # fmt: skip

    def read(self, unit: Unit, skip: int = 0) -> Iterator[Raw]:
        for span in unit.spans:
            data = _load(span.input)
            self.columns.check(data.features.arrow_schema, span.input.url)
            stop = len(data) if span.stop is None else span.stop
            first = span.start + min(skip, stop - span.start)
            skip -= first - span.start
            data = data.select_columns(self.columns.names).with_format("arrow")
            step = rows_together(span.input.size, len(data))
            for row in range(first, stop, step):
                yield from self.columns.raws(data[row : min(row + step, stop)], span.input, row)

    def _input(self, folder: Path) -> Input:
        split, name = self.source.split, folder.resolve().name
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
        state = folder / STATE
        size = sum(path.stat().st_size for path in folder.glob("*.arrow"))
        return Input(name=name, url=str(state), size=size, stamp=str(state.stat().st_mtime_ns))


def _load(input: Input) -> Dataset:
    from datasets import Dataset

    folder = Path(input.url).parent
    try:
        return Dataset.load_from_disk(str(folder))
    except (OSError, ValueError, KeyError) as error:
        raise DataError(
            f"{folder}: must be a whole saved dataset, got {error}; save it again or leave it out"
        ) from error
