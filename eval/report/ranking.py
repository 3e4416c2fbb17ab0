"""Which of several models is better on the same items, and which cannot be told apart?

The leader is known only after looking, and any pair may be asked about. So the intervals of one ranking hold
for all of its pairs at once: their level is 1 - 0.05 / pairs (Bonferroni). A model's place is one more than
the longest chain of models each shown to be better than the next; at place 1 nobody is shown to be better.

A model that was trained with several seeds has on each item its mean over them. Documents are resampled and
seeds are not, since three say little of their spread: a difference counts only if every seed has its sign.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np

from ..paired import Interval, mean_interval, paired_difference
from ..result import Cell, Evaluation, check_comparable, check_items
from .record import place

RESAMPLES = 20_000
"""At a level of 1 - 0.05 / 45 the ends of ten thousand resampled means are too few."""


@dataclass(frozen=True, kw_only=True)
class Difference:
    """How much better (positive) one model is than another, over all seeds and in each."""

    interval: Interval
    by_seed: tuple[float, ...]

    @property
    def distinguishable(self) -> bool:
        """Tell whether the interval excludes zero, and every seed has its sign."""
        one_sign = all(d > 0 for d in self.by_seed) or all(d < 0 for d in self.by_seed)
        return self.interval.distinguishable and one_sign

    def json(self) -> dict[str, Any]:
        by_seed = list(self.by_seed)
        return self.interval.json() | {"distinguishable": self.distinguishable, "by_seed": by_seed}


@dataclass(frozen=True, kw_only=True)
class Standing:
    """Where one model stands: its own value, and its gain over the best, which has none over itself."""

    name: str
    place: int
    value: Interval
    gain: Difference | None


def rank(cells: Mapping[str, Sequence[Cell]], *, unit: str, better: str) -> list[Standing]:
    """Rank models, best first, by one quantity measured on the same items; a cell a seed for each model.

    A model without seeds (it was not trained) has one cell.
    """
    check_items({f"{name} ({i})": cell for name, seeds in cells.items() for i, cell in enumerate(seeds)})
    values = {name: value_of(seeds, unit) for name, seeds in cells.items()}
    order = sorted(cells, key=lambda name: values[name].estimate, reverse=better == "higher")
    level = 1 - 0.05 / max(1, len(order) * (len(order) - 1) // 2)
    gaps = {(a, b): difference(cells[b], cells[a], better, level) for a, b in combinations(order, 2)}
    places: dict[str, int] = {}
    for name in order:
        ahead = [places[other] for other in places if gaps[other, name].distinguishable]
        places[name] = 1 + max(ahead, default=0)
    return [
        Standing(name=name, place=places[name], value=values[name], gain=gaps.get((order[0], name)))
        for name in order
    ]


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


def value_of(seeds: Sequence[Cell], unit: str) -> Interval:
    """Estimate a model's own value; a mean over seeds of yes and no is no proportion of the needles."""
    if len(seeds) == 1:
        return seeds[0].interval(unit)
    return mean_interval(average(seeds).values, weights=seeds[0].weights)


def rankings(models: Mapping[str, Sequence[Evaluation]], *, boundary: int) -> Iterator[dict[str, Any]]:
    """Rank the models by every task, inside `boundary` tokens and beyond; rows ready for JSON.

    Refuses evaluations that did not measure the same tokens.
    """
    check_comparable(models)
    first = next(iter(models.values()))[0]
    for task, result in first.results.items():
        words = result.words
        for cells in result.sides(boundary):
            pooled = {name: [e.results[task].pooled(cells) for e in seeds] for name, seeds in models.items()}
            where = place(cells, words.axis)
            side = "inside" if where["stop"] <= boundary else "beyond"
            standings = rank(pooled, unit=words.unit, better=words.better)
            yield {"task": task, **asdict(words), **where, "side": side, **row_of(standings)}


def row_of(standings: Sequence[Standing]) -> dict[str, Any]:
    """Write standings as JSON values, in the words `wording` reads: `values` and `gains` by model."""
    gains = {s.name: s.gain for s in standings if s.gain is not None}
    return {
        "best": standings[0].name,
        "places": {s.name: s.place for s in standings},
        "n": standings[0].value.n,
        "level": next((gain.interval.level for gain in gains.values()), 0.95),
        "values": {s.name: s.value.json() for s in standings},
        "gains": {name: gain.json() for name, gain in gains.items()},
    }
