"""Which cells does a comparison have, and what is the recipe of each?

A cell is one scheme at one factor, training-free or trained with one seed and learning rate. What it does not
say itself it shares with all others: data and order of a seed, steps, tasks, documents.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ....rope import Base
from ...language.layers import merge
from ...language.schema import Recipe
from ..stores import store_folder
from .schemes import Contender
from .section import CompareSection

SELECTION = 4
"""Of the held-out documents by length, one in so many chooses learning rates and is in no reported number."""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One scheme at one factor, its recipe complete; `seed` is None where nothing is trained."""

    contender: Contender
    recipe: Recipe
    seed: int | None = None
    chooses: bool = False
    "its loss on the selection documents has a say in the learning rate"

    @property
    def title(self) -> str:
        return f"{self.contender.label} {self.contender.factor:g}x {self.how}"

    @property
    def how(self) -> str:
        if self.seed is None:
            return "training-free"
        return f"trained {self.recipe.train.learning_rate:g} seed {self.seed}"


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """A comparison recipe, resolved: at each factor the shared recipe and the schemes as they take part."""

    name: str
    section: CompareSection
    base: Base
    recipes: Mapping[float, Recipe]
    contenders: Mapping[float, Sequence[Contender]]

    @property
    def template(self) -> Recipe:
        """Give the shared recipe at the longest target."""
        return self.recipes[max(self.recipes)]

    @property
    def run_dir(self) -> Path:
        return Path(self.template.run_dir)

    @property
    def model(self) -> Path:
        """Give the folder of the base model; `check` has refused a recipe without."""
        assert self.template.model.path is not None
        return Path(self.template.model.path)

    @property
    def rates(self) -> list[float]:
        return self.section.learning_rates or [self.template.train.learning_rate]

    def plans(self) -> dict[tuple[float, int], Recipe]:
        """Give the stage whose data is trained on by every scheme of a factor and seed."""
        seeds = range(self.section.seeds if self.section.trained else 1)
        return {(factor, seed): self.at(factor, seed) for factor in self.section.factors for seed in seeds}

    def at(self, factor: float, seed: int, **train: Any) -> Recipe:
        """Lay a seed over a factor's recipe; the store is shared by all cells."""
        recipe = self.recipes[factor]
        data = {"seed": recipe.data.seed + seed, "store": str(store_folder(recipe))}
        over = {
            "data": data,
            "train": {"seed": recipe.train.seed + seed, "keep": 1, **train},
            "eval": {"every": 0},
        }
        return Recipe.model_validate(merge(recipe.model_dump(exclude_unset=True), over))

    def cell(self, contender: Contender, *, seed: int | None = None, rate: float | None = None) -> Cell:
        """Make the cell of a scheme at its factor; without a seed it is not trained."""
        train = {} if rate is None else {"learning_rate": rate}
        shared = self.at(contender.factor, seed or 0, **train)
        rope = {"kind": contender.scheme.name, "replace": True, **contender.scheme.knobs}
        values = merge(shared.model_dump(exclude_unset=True), {"rope": rope})
        chooses = len(self.rates) > 1 and seed == 0 and contender.factor == self.section.middle
        return Cell(contender=contender, recipe=Recipe.model_validate(values), seed=seed, chooses=chooses)

    def trained(self, contender: Contender, rate: float) -> list[Cell]:
        """List the cells of a scheme at its factor, one a seed."""
        return [self.cell(contender, seed=seed, rate=rate) for seed in range(self.section.seeds)]

    def distinct(self, factor: float) -> list[Contender]:
        """List the contenders of a factor whose frequencies no earlier one has."""
        return [one for one in self.contenders[factor] if one.same_as is None]

    def trainees(self, factor: float) -> list[Contender]:
        return [one for one in self.distinct(factor) if self.trains(one)]

    def trains(self, contender: Contender) -> bool:
        return self.section.trained and contender.trains

    def count(self) -> dict[float, tuple[int, int]]:
        """Count the cells of each factor: training-free, and trained, with those that only choose a rate."""
        others = len(self.rates) - 1
        return {
            factor: (
                len(self.distinct(factor)),
                len(self.trainees(factor)) * (self.section.seeds + others * (factor == self.section.middle)),
            )
            for factor in self.section.factors
        }
