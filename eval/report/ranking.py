"""Which of several models is better on the same items, and which cannot be told apart?

The leader is known only after looking, and any pair may be asked about. So the intervals of one ranking hold
for all of its pairs at once: their level is 1 - 0.05 / pairs (Bonferroni). A model's place is one more than
the longest chain of models each shown to be better than the next; at place 1 nobody is shown to be better.

A model that was trained with several seeds has on each item its mean over them. Documents are resampled and
seeds are not, since three say little of their spread: a difference counts only if every seed has its sign.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np

from ..errors import EvalError
from ..paired import Interval, mean_interval, paired_difference
from ..result import Cell, Result, Unit, pool
from ..run import Evaluation
from .compare import plain, same, split
from .wording import compared, measured, subject_of

RESAMPLES = 20_000
"""At a level of 1 - 0.05 / 45 the ends of ten thousand resampled means are too few."""


@dataclass(frozen=True, kw_only=True)
class Standing:
    """Where one model stands: its own value, and its gain over the best, which has none over itself."""

    name: str
    place: int
    value: Interval
    gain: Interval | None
    by_seed: tuple[float, ...]
    "the gain of each seed"
    distinguishable: bool
    "the gain's interval excludes zero, and every seed has its sign"


@dataclass(frozen=True, kw_only=True)
class Difference:
    """How much better (positive) one model is than another, over all seeds and in each."""

    interval: Interval
    by_seed: tuple[float, ...]

    @property
    def distinguishable(self) -> bool:
        one_sign = all(d > 0 for d in self.by_seed) or all(d < 0 for d in self.by_seed)
        return self.interval.distinguishable and one_sign


def rank(cells: Mapping[str, Sequence[Cell]], *, unit: Unit, better: str) -> list[Standing]:
    """Rank models, best first, by one quantity measured on the same items; a cell a seed for each model.

    A model without seeds (it was not trained) has one cell.
    """
    check_items(cells)
    means = {name: average(own) for name, own in cells.items()}
    values = {name: own_interval(mean, cells[name], unit) for name, mean in means.items()}
    order = sorted(cells, key=lambda name: values[name].estimate, reverse=better == "higher")
    level = 1 - 0.05 / max(1, len(order) * (len(order) - 1) // 2)
    gaps = {(a, b): difference(cells[b], cells[a], better, level) for a, b in combinations(order, 2)}
    place: dict[str, int] = {}
    for name in order:
        ahead = [place[other] for other in place if gaps[other, name].distinguishable]
        place[name] = 1 + max(ahead, default=0)
    return [standing(name, place[name], values[name], gaps.get((order[0], name))) for name in order]


def standing(name: str, place: int, value: Interval, behind: Difference | None) -> Standing:
    return Standing(
        name=name,
        place=place,
        value=value,
        gain=behind.interval if behind else None,
        by_seed=behind.by_seed if behind else (),
        distinguishable=behind is not None and behind.distinguishable,
    )


def difference(ours: Sequence[Cell], theirs: Sequence[Cell], better: str, level: float) -> Difference:
    """Return how much better ours is; a model with one cell meets every seed of the other."""
    sign = -1 if better == "lower" else 1
    seeds = max(len(ours), len(theirs))
    weights = ours[0].weights
    pairs = [(ours[i % len(ours)].values, theirs[i % len(theirs)].values) for i in range(seeds)]
    return Difference(
        interval=paired_difference(
            sign * average(ours).values,
            sign * average(theirs).values,
            weights=weights,
            resamples=RESAMPLES,
            level=level,
        ),
        by_seed=tuple(float(sign * (weights @ (a - b)) / weights.sum()) for a, b in pairs),
    )


def average(cells: Sequence[Cell]) -> Cell:
    """Return the cell whose value of each item is the mean over seeds."""
    return replace(cells[0], values=np.mean([cell.values for cell in cells], axis=0))


def own_interval(mean: Cell, cells: Sequence[Cell], unit: Unit) -> Interval:
    """Estimate a model's own value; a mean over seeds of yes and no is no proportion of the needles."""
    return mean.interval(unit) if len(cells) == 1 else mean_interval(mean.values, weights=mean.weights)


def check_items(cells: Mapping[str, Sequence[Cell]]) -> None:
    first = next(iter(cells.values()))[0]
    for name, own in cells.items():
        for cell in own:
            if cell.items != first.items or not np.array_equal(cell.weights, first.weights):
                raise EvalError(
                    f"ranking.{name}: must be measured on the same items as the others, got "
                    f"{len(cell.items)} beside {len(first.items)}; evaluate all models with the same "
                    "tasks, seed and corpus"
                )


def rankings(models: Mapping[str, Sequence[Evaluation]], *, boundary: int) -> Iterator[dict[str, Any]]:
    """Rank the models by every task, inside `boundary` tokens and beyond; rows ready for JSON.

    Refuses evaluations that did not measure the same tokens.
    """
    check_same(models)
    first = next(iter(models.values()))[0]
    for task, result in first.results.items():
        for part in dict.fromkeys(cell.part for cell in result.cells):
            for keys in split([cell for cell in result.cells if cell.part == part], boundary):
                cells = {
                    name: [pool([c for c in e.results[task].cells if c.key in keys]) for e in own]
                    for name, own in models.items()
                }
                standings = rank(cells, unit=result.unit, better=result.better)
                yield described(task, result, keys, boundary) | told(standings)


def check_same(models: Mapping[str, Sequence[Evaluation]]) -> None:
    first = next(iter(models.values()))[0]
    for name, own in models.items():
        for evaluation in own:
            same(name, "corpus", first.corpus, evaluation.corpus)
            same(name, "tasks", list(first.results), list(evaluation.results))
            for task, result in evaluation.results.items():
                expected = first.results[task]
                same(name, f"{task}.settings", expected.settings, result.settings)
                same(name, f"{task}.items", expected.items_fingerprint, result.items_fingerprint)


def described(task: str, result: Result, keys: set, boundary: int) -> dict[str, Any]:
    """Say what a row of rankings measures."""
    part, *_ = next(iter(keys))
    lengths = sorted({length for _, _, length, _ in keys})
    return {
        "task": task,
        "label": result.label,
        "unit": result.unit,
        "better": result.better,
        "part": part,
        "side": "inside" if lengths[-1] <= boundary else "beyond",
        "start": min(start for _, start, _, _ in keys),
        "stop": lengths[-1],
        "lengths": lengths if any(depth is not None for *_, depth in keys) else None,
    }


def told(standings: Sequence[Standing]) -> dict[str, Any]:
    """Write standings as JSON values, in the words `wording` reads: `values` and `gains` by model."""
    gains = {
        s.name: plain(s.gain) | {"distinguishable": s.distinguishable, "by_seed": list(s.by_seed)}
        for s in standings
        if s.gain is not None
    }
    return {
        "best": standings[0].name,
        "places": {s.name: s.place for s in standings},
        "n": standings[0].value.n,
        "level": next((s.gain.level for s in standings if s.gain is not None), 0.95),
        "values": {s.name: plain(s.value) for s in standings},
        "gains": gains,
    }


def ranking_sentence(row: Mapping[str, Any]) -> str:
    """Say one ranking in words, the best first."""
    counted = "needles" if row["lengths"] else "documents"
    said = [f"best {measured(row['best'], row, row['unit'])}"]
    said += [compared(name, row, row["unit"]) for name in row["gains"]]
    return f"{subject_of(row, row['label'])} ({row['n']} {counted}): {'; '.join(said)}."
