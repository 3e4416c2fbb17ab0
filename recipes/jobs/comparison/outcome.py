"""What does a cell leave behind, and what do its numbers depend on?"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from hashlib import file_digest
from pathlib import Path
from typing import Any

from ....data import Document, Plan
from ....data.corpus.manifest import fingerprint
from ....eval.report.wording import unit_of
from ....eval.result import Cell as Values
from ....eval.result import Evaluation, Result, pool, split
from ....rope import Base
from ....train.storage import read_json, write_json
from ...language.schema import numbers
from .cells import SELECTION, Cell


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What one cell found, and the fingerprint of what that depends on."""

    title: str
    fingerprint: str
    depends_on: dict[str, Any]
    selection_loss: float | None
    "nats a token beyond the trained window, where this cell has a say in the learning rate"
    selection_documents: list[str]
    "what that loss is measured on"
    train_seconds: float
    evaluation: Evaluation

    def write(self, path: Path) -> None:
        plain = {**vars(self), "evaluation": self.evaluation.json()}
        write_json(path, {"format": 1, **plain})

    @classmethod
    def read(cls, path: Path) -> Outcome:
        values = read_json(path)
        del values["format"]
        return cls(**{**values, "evaluation": Evaluation.from_json(values["evaluation"])})


@dataclass(frozen=True, kw_only=True)
class Outcomes:
    """Everything a comparison measured, by factor and by the label of the scheme."""

    training_free: Mapping[float, Mapping[str, Sequence[Outcome]]]
    "one outcome each"
    trained: Mapping[float, Mapping[str, Sequence[Outcome]]]
    "an outcome a seed"
    losses: Mapping[str, Mapping[float, float]]
    "by scheme and learning rate: nats a token on the selection documents; empty where there was no choice"
    rates: Mapping[str, float]


def dependencies(cell: Cell, base: Base, plan: Plan, *, weights: str, seed: int) -> dict[str, Any]:
    """Give all that the numbers of a cell depend on, as JSON values; `seed` draws what is measured."""
    scheme, recipe = cell.contender.scheme, cell.recipe
    frequencies = scheme.frequencies(base, target_length=recipe.target_length)
    measured = {
        "weights": weights,
        "corpus": plan.corpus_fingerprint,
        "selection": SELECTION,
        "seed": seed,
        "tasks": {name: {"kind": task.name, **asdict(task)} for name, task in recipe.tasks.items()},
        "dtype": recipe.train.dtype,
        "lengths": [base.original_length, base.trained_length, recipe.target_length],
        "scheme": [scheme.name, scheme.knobs, frequencies.fingerprint],
    }
    trained = {"plan": plan.fingerprint, "numbers": numbers(recipe), "chooses": cell.chooses}
    # As it is read back: tuples become lists.
    return json.loads(json.dumps(measured if cell.seed is None else measured | trained))


def cell_folder(run_dir: Path, cell: Cell, depends_on: Mapping[str, Any]) -> Path:
    """Name the folder of a cell by what it is and what it depends on."""
    name = re.sub(r"[^\w.-]+", "-", cell.title)
    return run_dir / "cells" / f"{name}-{fingerprint(dict(depends_on))[:12]}"


def split_documents(documents: Sequence[Document]) -> tuple[list[Document], list[Document]]:
    """Split into the documents that choose learning rates and those that are reported, alike in length."""
    order = sorted(documents, key=lambda d: (-len(d.tokens), d.id, d.start))
    chosen = set(range(SELECTION - 1, len(order), SELECTION))
    return [order[i] for i in sorted(chosen)], [d for i, d in enumerate(order) if i not in chosen]


def weights_fingerprint(folder: Path) -> str:
    """Hash a model's config and weight files (sha256 hex), each by its content."""
    files = sorted(f for f in folder.iterdir() if f.suffix in (".safetensors", ".bin", ".json"))
    digests = {}
    for file in files:
        with file.open("rb") as content:
            digests[file.name] = file_digest(content, "sha256").hexdigest()
    return fingerprint(digests)


def headline(evaluation: Evaluation, boundary: int) -> str:
    """Say where a model stands beyond the window that the base was trained at, task by task."""
    return ", ".join(
        f"{result.words.quantity} {unit_of(result.words.unit).number(beyond(result, boundary).mean)}"
        for result in evaluation.results.values()
    )


def beyond(result: Result, boundary: int) -> Values:
    """Join the cells of a task beyond the boundary, the value of an item over all of them."""
    return pool(split(result.cells, boundary)[-1])


def train_seconds(metrics: Path) -> float:
    """Sum what the steps of a run took, over however many calls."""
    if not metrics.exists():
        return 0.0
    return sum(json.loads(line)["seconds"] for line in metrics.read_text(encoding="utf-8").splitlines())
