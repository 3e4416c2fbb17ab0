"""What did a task measure: values per item in cells, the scores that follow, and all of it on one model."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .errors import EvalError
from .paired import Interval, mean_interval, paired_difference, proportion_interval

FORMAT = 1

Key = tuple[str, int, int, float | None]
"""Part, start, length and depth: what tells the cells of a result apart."""


@dataclass(frozen=True, kw_only=True)
class Words:
    """What a report says of a task's numbers; it is kept with them, so that any report can be drawn again."""

    label: str
    quantity: str
    "what one value is; a label may say what the values are for"
    unit: str
    "nats, fraction (of yes and no), or any other word, which is said after the number"
    better: Literal["lower", "higher"]
    items: str = "documents"
    "what is counted, and resampled"
    axis: Literal["positions", "prompts"] = "positions"
    "whether a cell stands at positions of a document or at a length of prompts"
    picture: Literal["curve", "grid", "bars"] | None = None


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
    def key(self) -> Key:
        return self.part, self.start, self.length, self.depth

    @property
    def baseline(self) -> Key:
        """Return the key of the reference's cell that this one is compared with."""
        return self.against, self.start, self.length, self.depth

    @property
    def mean(self) -> float:
        return float(self.weights @ self.values / self.weights.sum())

    def interval(self, unit: str) -> Interval:
        """Estimate the mean over items: Wilson's interval for yes and no, else by resampling items."""
        if unit == "fraction":
            return proportion_interval(int(self.values.sum()), self.values.size)
        return mean_interval(self.values, weights=self.weights)

    def score(self, task: str, unit: str) -> Score:
        interval, numbers = self.interval(unit), ("value", "n", "low", "high")
        where = {name: getattr(self, name) for name in ("length", "depth", "start", "part")}
        return Score(task=task, **where, **{name: interval.json()[name] for name in numbers})

    def json(self) -> dict[str, Any]:
        arrays = {name: getattr(self, name).tolist() for name in ("values", "weights")}
        return {**vars(self), "items": list(self.items), **arrays}


def cell_of(items: Iterable[str], values: ArrayLike, weights: ArrayLike, **where: Any) -> Cell:
    """Make a cell from one value and one weight an item; `where` as the other fields of Cell."""
    return Cell(
        items=tuple(items),
        values=np.asarray(values, dtype=np.float64),
        weights=np.asarray(weights, dtype=np.float64),
        **where,
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class Result:
    """Everything one task measured on one model, with what a reader must know to judge it.

    `items_fingerprint` hashes the very tokens that were scored: results are comparable where it is equal.
    """

    task: str
    kind: str
    settings: dict[str, Any]
    words: Words
    protocol: str
    items_fingerprint: str
    cells: tuple[Cell, ...]
    notes: dict[str, Any] = field(default_factory=dict)

    def cell(self, key: Key) -> Cell | None:
        return next((c for c in self.cells if c.key == key), None)

    def pooled(self, like: Iterable[Cell]) -> Cell:
        """Join the cells that stand where these of another result do."""
        keys = {cell.key for cell in like}
        return pool([cell for cell in self.cells if cell.key in keys])

    def sides(self, boundary: int) -> Iterator[list[Cell]]:
        """Yield the cells of each part inside a boundary, and those beyond it."""
        for part in dict.fromkeys(cell.part for cell in self.cells):
            yield from split((c for c in self.cells if c.part == part), boundary)

    def scores(self) -> list[Score]:
        return [cell.score(self.task, self.words.unit) for cell in self.cells]

    def described(self) -> dict[str, Any]:
        """Return what is known of the task, without its numbers, as JSON values."""
        left_out = ("task", "words", "cells")
        return {k: v for k, v in vars(self).items() if k not in left_out} | asdict(self.words)

    def json(self) -> dict[str, Any]:
        return {
            "task": self.task,
            **self.described(),
            "cells": [cell.json() for cell in self.cells],
            "scores": [asdict(score) for score in self.scores()],
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Result:
        data = with_words(data)
        known = {f.name: data[f.name] for f in fields(cls) if f.name != "words"}
        words = Words(**{f.name: data[f.name] for f in fields(Words)})
        return cls(**{**known, "words": words, "cells": tuple(cell_of(**cell) for cell in data["cells"])})


def with_words(data: Mapping[str, Any]) -> dict[str, Any]:
    """Fill in the words that a stored task lacks; of the tasks before them only needles had fractions."""
    if data["unit"] == "fraction":
        before = {"quantity": data["label"], "items": "needles", "axis": "prompts"}
    else:
        before = {"quantity": "loss", "items": "documents", "axis": "positions"}
    return {**data, **{name: word for name, word in before.items() if name not in data}}


@dataclass(frozen=True, kw_only=True, eq=False)
class Evaluation:
    """What was measured on one model, and which model, scheme and corpus that was.

    `fingerprint` hashes the weights, `scheme_fingerprint` the frequencies, `corpus` the token store;
    `reference` is the model that gains are formed against. Lengths are in tokens, `seconds` of wall time
    are the mean over ranks.
    """

    model: str
    fingerprint: str
    parameters: int
    scheme: str
    knobs: dict[str, Any]
    scheme_fingerprint: str
    original_length: int | None
    trained_length: int
    target_length: int
    corpus: str
    reference: str
    seed: int
    seconds: float
    results: dict[str, Result]

    @property
    def scores(self) -> list[Score]:
        return [score for result in self.results.values() for score in result.scores()]

    def json(self) -> dict[str, Any]:
        return {"format": FORMAT, **vars(self), "results": {n: r.json() for n, r in self.results.items()}}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Evaluation:
        if data.get("format") != FORMAT:
            raise EvalError(
                f"evaluation.format: must be {FORMAT}, got {data.get('format')!r}; read it with the "
                "version that wrote it"
            )
        results = {name: Result.from_json(result) for name, result in data["results"].items()}
        return cls(**{**{f.name: data[f.name] for f in fields(cls)}, "results": results})


def check_comparable(models: Mapping[str, Sequence[Evaluation]]) -> None:
    """Refuse evaluations that did not measure the same items; a model may have several, one a seed."""
    first = _measured_on(next(iter(models.values()))[0])
    for name, evaluations in models.items():
        for made in map(_measured_on, evaluations):
            for what, expected in first.items():
                if (got := made[what]) != expected:
                    raise EvalError(
                        f"report.{name}.{what}: must equal the other models' {expected!r}, got {got!r}; "
                        "evaluate all models with the same tasks, seed and corpus"
                    )


def _measured_on(evaluation: Evaluation) -> dict[str, Any]:
    """Say on what an evaluation was made; which tasks there are is compared before what they measured."""
    made = {name: getattr(evaluation, name) for name in ("reference", "corpus", "seed")}
    made["tasks"] = list(evaluation.results)
    for task, result in evaluation.results.items():
        made |= {f"{task}.settings": result.settings, f"{task}.items": result.items_fingerprint}
    return made


def gain(cell: Cell, reference: Cell, better: Literal["lower", "higher"]) -> Interval:
    """Compare a model's cell with the reference's on the same items; positive is better."""
    check_items({"model": cell, "reference": reference})
    pair = (reference, cell) if better == "lower" else (cell, reference)
    return paired_difference(pair[0].values, pair[1].values, weights=cell.weights)


def check_items(cells: Mapping[str, Cell]) -> None:
    """Refuse cells of several models whose items, or the tokens behind them, are not the same."""
    first = next(iter(cells.values()))
    for name, cell in cells.items():
        if cell.items != first.items or not np.array_equal(cell.weights, first.weights):
            raise EvalError(
                f"compare.{name}: must be measured on the same items as the others, got "
                f"{len(cell.items)} beside {len(first.items)}; evaluate all models with the same tasks, seed "
                "and corpus"
            )


def pool(cells: Sequence[Cell]) -> Cell:
    """Join cells over their positions: token means for an item in several cells, other items beside."""
    totals: dict[str, NDArray[np.float64]] = {}
    for cell in cells:
        for item, value, weight in zip(cell.items, cell.values, cell.weights, strict=True):
            totals[item] = totals.get(item, np.zeros(2)) + np.array([value * weight, weight])
    sums = np.array(list(totals.values()))
    return cell_of(
        totals,
        sums[:, 0] / sums[:, 1],
        sums[:, 1],
        start=min(c.start for c in cells),
        length=max(c.length for c in cells),
        part=cells[0].part,
        against=cells[0].against,
    )


def split(cells: Iterable[Cell], boundary: int) -> list[list[Cell]]:
    """Return the cells inside the boundary, and those beyond it or of longer prompts; neither is empty."""
    cells = list(cells)
    inside = [c for c in cells if c.length <= boundary]
    beyond = [c for c in cells if c.length > boundary and (c.start == 0 or c.start >= boundary)]
    return [part for part in (inside, beyond) if part]


def fingerprint_rows(rows: Iterable[NDArray[Any]]) -> str:
    """Hash token rows, lengths included (sha256 hex)."""
    digest = hashlib.sha256()
    for row in rows:
        digest.update(f"{row.size}:".encode())
        digest.update(np.ascontiguousarray(row, dtype="<i8").tobytes())
    return digest.hexdigest()
