"""What do several evaluations say side by side: a plain report of scores, paired gains and a short summary.

The report is a dictionary ready for JSON, with every value per item inside; page and pictures are drawn
from it alone, so any stored report can be drawn again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from ..errors import EvalError
from ..result import FORMAT, Cell, Evaluation, check_comparable, gain, pool


def build_report(
    evaluations: Mapping[str, Evaluation],
    *,
    title: str = "Context window report",
    command: str = "",
    date: str | None = None,
) -> dict[str, Any]:
    """Compare evaluations with their common reference; the first problem that forbids it is an error."""
    if not evaluations:
        raise EvalError("report: at least one evaluation must be there, got none; evaluate a model first")
    first = next(iter(evaluations.values()))
    if first.reference not in evaluations:
        raise EvalError(
            f"report: the model of reference must be among {list(evaluations)}, got {first.reference!r}; "
            "add it"
        )
    check_comparable({name: [evaluation] for name, evaluation in evaluations.items()})
    reference = evaluations[first.reference]
    names = list(first.results)
    return {
        "format": FORMAT,
        "title": title,
        "date": date or now(),
        "command": command,
        "reference": first.reference,
        "boundary": reference.trained_length,
        "corpus": first.corpus,
        "seed": first.seed,
        "models": [described(evaluation) for evaluation in evaluations.values()],
        "tasks": {name: reference.results[name].described() for name in names},
        "scores": [{"model": m, **asdict(score)} for m, e in evaluations.items() for score in e.scores],
        "gains": [
            row for m, e in evaluations.items() for name in names for row in gain_rows(m, e, reference, name)
        ],
        "summary": [row for name in names for row in pooled_rows(name, evaluations, reference)],
        "evaluations": {m: e.json() for m, e in evaluations.items()},
    }


def now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")


def described(evaluation: Evaluation) -> dict[str, Any]:
    """Return which model, scheme and lengths these are."""
    left_out = ("model", "results", "reference", "corpus", "seed")
    known = {name: value for name, value in vars(evaluation).items() if name not in left_out}
    return {"name": evaluation.model, **known}


def gain_rows(
    model: str, evaluation: Evaluation, reference: Evaluation, task: str
) -> Iterator[dict[str, Any]]:
    """Compare each cell of a model with the reference's; a cell is not compared with itself."""
    result, base = evaluation.results[task], reference.results[task]
    for cell in result.cells:
        other = base.cell(cell.baseline)
        if other is None or (evaluation is reference and cell.key == cell.baseline) or len(cell.items) < 2:
            continue
        where = {name: getattr(cell, name) for name in ("part", "start", "length", "depth", "against")}
        yield {"model": model, "task": task, **where, **gain(cell, other, result.words.better).json()}


def pooled_rows(
    task: str, evaluations: Mapping[str, Evaluation], reference: Evaluation
) -> Iterator[dict[str, Any]]:
    """Pool each part of a task into two rows: inside the reference's trained window, and beyond it."""
    base = reference.results[task]
    words = base.words
    for cells in base.sides(reference.trained_length):
        part = cells[0].part
        measured = {m: e.results[task] for m, e in evaluations.items()}
        pooled = {m: r.pooled(cells) for m, r in measured.items() if any(c.part == part for c in r.cells)}
        baselines = {cell.baseline for cell in cells}
        against = [cell for cell in base.cells if cell.key in baselines]
        gains = {
            m: gain(cell, pool(against), words.better).json()
            for m, cell in pooled.items()
            if against and (m != reference.model or cell.part != cell.against) and len(cell.items) > 1
        }
        values = {m: cell.interval(words.unit).json() for m, cell in pooled.items()}
        over = {"against": cells[0].against, "values": values, "gains": gains}
        yield {"task": task, **place(cells, words.axis), **over}


def place(cells: Sequence[Cell], axis: str) -> dict[str, Any]:
    """Say where cells of one part stand: `lengths` are those of prompts, None where they are positions."""
    lengths = sorted({cell.length for cell in cells})
    return {
        "part": cells[0].part,
        "start": min(cell.start for cell in cells),
        "stop": lengths[-1],
        "lengths": lengths if axis == "prompts" else None,
    }
