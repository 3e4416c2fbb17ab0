"""What do several evaluations say side by side: a plain report of scores, paired gains and a short summary.

The report is a dictionary ready for JSON, with every value per item inside; page and pictures are drawn
from it alone, so any stored report can be drawn again.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, fields
from datetime import UTC, datetime
from typing import Any

from ..errors import EvalError
from ..paired import Interval
from ..result import Cell, Result, gain, pool
from ..run import FORMAT, Evaluation

Report = dict[str, Any]


def build_report(
    evaluations: Mapping[str, Evaluation],
    *,
    title: str = "Context window report",
    command: str = "",
    date: str | None = None,
) -> Report:
    """Compare evaluations with their common reference; the first problem that forbids it is an error."""
    check_comparable(evaluations)
    first = next(iter(evaluations.values()))
    reference = evaluations[first.reference]
    names = list(first.results)
    return {
        "format": FORMAT,
        "title": title,
        "date": date or datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "command": command,
        "reference": first.reference,
        "boundary": reference.trained_length,
        "corpus": first.corpus,
        "seed": first.seed,
        "models": [describe(e) for e in evaluations.values()],
        "tasks": {name: describe_task(reference.results[name]) for name in names},
        "scores": [{"model": m, **asdict(score)} for m, e in evaluations.items() for score in e.scores],
        "gains": [
            row for m, e in evaluations.items() for name in names for row in gain_rows(m, e, reference, name)
        ],
        "summary": [row for name in names for row in summarise(name, evaluations, reference)],
        "evaluations": {m: e.json() for m, e in evaluations.items()},
    }


def check_comparable(evaluations: Mapping[str, Evaluation]) -> None:
    """Refuse evaluations that did not measure the same items or name different references."""
    if not evaluations:
        raise EvalError("report: at least one evaluation must be there, got none; evaluate a model first")
    first = next(iter(evaluations.values()))
    if first.reference not in evaluations:
        raise EvalError(
            f"report: the model of reference must be among {list(evaluations)}, got {first.reference!r}; "
            "add it"
        )
    for name, other in evaluations.items():
        for field in ("reference", "corpus", "seed"):
            same(name, field, getattr(first, field), getattr(other, field))
        same(name, "tasks", list(first.results), list(other.results))
        for task, result in other.results.items():
            same(name, f"{task}.settings", first.results[task].settings, result.settings)
            same(name, f"{task}.items", first.results[task].items_fingerprint, result.items_fingerprint)


def same(model: str, what: str, expected: object, got: object) -> None:
    if expected != got:
        raise EvalError(
            f"report.{model}.{what}: must equal the other models' {expected!r}, got {got!r}; "
            "evaluate all models with the same tasks, seed and corpus"
        )


def describe(evaluation: Evaluation) -> dict[str, Any]:
    """Return which model, scheme and lengths these are."""
    left_out = ("results", "reference", "corpus", "seed")
    known = {f.name: getattr(evaluation, f.name) for f in fields(evaluation) if f.name not in left_out}
    return {"name": known.pop("model"), **known}


def describe_task(result: Result) -> dict[str, Any]:
    left_out = ("task", "cells")
    return {f.name: getattr(result, f.name) for f in fields(result) if f.name not in left_out}


def gain_rows(
    model: str, evaluation: Evaluation, reference: Evaluation, task: str
) -> Iterable[dict[str, Any]]:
    """Compare each cell of a model with the reference's; a cell is not compared with itself."""
    result, base = evaluation.results[task], reference.results[task]
    for cell in result.cells:
        other = base.cell(cell.baseline)
        if other is None or (evaluation is reference and cell.key == cell.baseline) or len(cell.items) < 2:
            continue
        interval = gain(cell, other, result.better)
        yield {
            "model": model,
            "task": task,
            "part": cell.part,
            "start": cell.start,
            "length": cell.length,
            "depth": cell.depth,
            "against": cell.against,
            **plain(interval),
        }


def plain(interval: Interval) -> dict[str, Any]:
    return {
        "value": interval.estimate,
        "low": interval.low,
        "high": interval.high,
        "n": interval.n,
        "distinguishable": interval.distinguishable,
    }


def summarise(
    task: str, evaluations: Mapping[str, Evaluation], reference: Evaluation
) -> Iterable[dict[str, Any]]:
    """Pool each part of a task into two rows: inside the reference's trained window, and beyond it."""
    base = reference.results[task]
    for part in dict.fromkeys(cell.part for cell in base.cells):
        for keys in split([c for c in base.cells if c.part == part], reference.trained_length):
            pooled = {
                m: pool([c for c in e.results[task].cells if c.key in keys])
                for m, e in evaluations.items()
                if any(c.key in keys for c in e.results[task].cells)
            }
            yield summary_row(task, base, pooled, keys, reference)


def split(cells: Sequence[Cell], boundary: int) -> list[set]:
    """Return the keys of the cells inside the boundary, and of those beyond it or of longer prompts."""
    inside = {c.key for c in cells if c.length <= boundary}
    beyond = {c.key for c in cells if c.length > boundary and (c.start == 0 or c.start >= boundary)}
    return [keys for keys in (inside, beyond) if keys]


def summary_row(
    task: str, base: Result, pooled: Mapping[str, Cell], keys: set, reference: Evaluation
) -> dict[str, Any]:
    sample = next(iter(pooled.values()))
    lengths = sorted({length for _, _, length, _ in keys})
    against = [c for c in base.cells if c.key in {(sample.against, *key[1:]) for key in keys}]
    gains = {
        m: plain(gain(cell, pool(against), base.better))
        for m, cell in pooled.items()
        if against and (m != reference.model or cell.part != cell.against) and len(cell.items) > 1
    }
    return {
        "task": task,
        "part": sample.part,
        "against": sample.against,
        "start": sample.start,
        "stop": sample.length,
        "lengths": lengths if any(depth is not None for *_, depth in keys) else None,
        "values": {m: plain(cell.interval(base.unit)) for m, cell in pooled.items()},
        "gains": gains,
    }
