"""What did a task measure: cells of values per item, and the scores with intervals that follow from them."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from .errors import EvalError
from .paired import Interval, mean_interval, paired_difference, proportion_interval

Unit = Literal["nats", "fraction"]


@dataclass(frozen=True, kw_only=True)
class Score:
    """One number of one task; `length` in tokens, `depth` in 0..1 or None, `value` in the unit of the task.

    `start` is the first position measured (the last is `length - 1`), `part` tells apart what one task
    measures twice.
    """

    task: str
    length: int
    depth: float | None
    value: float
    n: int
    low: float
    high: float
    start: int = 0
    part: str = ""


@dataclass(frozen=True, kw_only=True, eq=False)
class Cell:
    """One quantity at positions `start..length` for every item: value [n] and the tokens behind it [n].

    `against` is the part of the reference model that this cell is compared with: its own part unless stated.
    """

    length: int
    start: int = 0
    depth: float | None = None
    part: str = ""
    against: str = ""
    items: tuple[str, ...]
    values: NDArray[np.float64]
    weights: NDArray[np.float64]

    @property
    def key(self) -> tuple[str, int, int, float | None]:
        return self.part, self.start, self.length, self.depth

    @property
    def baseline(self) -> tuple[str, int, int, float | None]:
        """Return the key of the reference's cell that this one is compared with."""
        return self.against, self.start, self.length, self.depth

    def interval(self, unit: Unit) -> Interval:
        """Estimate the mean over items: Wilson's interval for yes and no, else by resampling items."""
        if unit == "fraction":
            return proportion_interval(int(self.values.sum()), self.values.size)
        return mean_interval(self.values, weights=self.weights)

    def json(self) -> dict[str, Any]:
        return {f.name: _plain(getattr(self, f.name)) for f in fields(self)}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "Cell":
        arrays = {name: np.array(data[name], dtype=np.float64) for name in ("values", "weights")}
        return cls(**{**data, **arrays, "items": tuple(data["items"])})


@dataclass(frozen=True, kw_only=True, eq=False)
class Result:
    """Everything one task measured on one model, with what a reader must know to judge it.

    `items_fingerprint` hashes the very tokens that were scored: results are comparable where it is equal.
    """

    task: str
    kind: str
    settings: dict[str, Any]
    label: str
    unit: Unit
    better: Literal["lower", "higher"]
    picture: Literal["curve", "grid", "bars"] | None
    protocol: str
    items_fingerprint: str
    cells: tuple[Cell, ...]
    notes: dict[str, Any] = field(default_factory=dict)

    def cell(self, key: tuple[str, int, int, float | None]) -> Cell | None:
        return next((c for c in self.cells if c.key == key), None)

    def scores(self) -> list[Score]:
        return [self.score(cell) for cell in self.cells]

    def score(self, cell: Cell) -> Score:
        interval = cell.interval(self.unit)
        return Score(
            task=self.task,
            length=cell.length,
            depth=cell.depth,
            value=interval.estimate,
            n=interval.n,
            low=interval.low,
            high=interval.high,
            start=cell.start,
            part=cell.part,
        )

    def json(self) -> dict[str, Any]:
        return {
            **{f.name: getattr(self, f.name) for f in fields(self)},
            "cells": [cell.json() for cell in self.cells],
            "scores": [asdict(score) for score in self.scores()],
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "Result":
        cells = tuple(Cell.from_json(cell) for cell in data["cells"])
        return cls(**{**{f.name: data[f.name] for f in fields(cls)}, "cells": cells})


def gain(cell: Cell, reference: Cell, better: Literal["lower", "higher"]) -> Interval:
    """Compare a model's cell with the reference's on the same items; positive is better."""
    if cell.items != reference.items:
        raise EvalError(
            f"compare: both cells need the same items, got {len(cell.items)} and {len(reference.items)} "
            "others; "
            "evaluate both models with the same settings, seed and corpus"
        )
    pair = (reference, cell) if better == "lower" else (cell, reference)
    return paired_difference(pair[0].values, pair[1].values, weights=cell.weights)


def pool(cells: Sequence[Cell]) -> Cell:
    """Join cells over their positions: token means for an item in several cells, other items beside."""
    totals: dict[str, NDArray[np.float64]] = {}
    for cell in cells:
        for item, value, weight in zip(cell.items, cell.values, cell.weights, strict=True):
            totals[item] = totals.get(item, np.zeros(2)) + np.array([value * weight, weight])
    sums = np.array(list(totals.values()))
    return Cell(
        start=min(c.start for c in cells),
        length=max(c.length for c in cells),
        part=cells[0].part,
        against=cells[0].against,
        items=tuple(totals),
        values=sums[:, 0] / sums[:, 1],
        weights=sums[:, 1],
    )


def fingerprint_rows(rows: Iterable[NDArray[Any]]) -> str:
    """Hash token rows, lengths included (sha256 hex)."""
    digest = hashlib.sha256()
    for row in rows:
        digest.update(f"{row.size}:".encode())
        digest.update(np.ascontiguousarray(row, dtype="<i8").tobytes())
    return digest.hexdigest()


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return value.tolist()
    return list(value) if isinstance(value, tuple) else value
