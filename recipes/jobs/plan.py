"""What does a verb with a recipe do before its work? Check it for a world of ranks, or print what would be.

Everything here comes from the recipe, the model's config and arithmetic.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from rich.console import Console

from ..language.check import missing_files, problems_of
from ..language.compose import load
from ..language.errors import RecipeError, raise_all
from ..language.schema import Recipe, stages
from ..options import on_demand, world_size
from ..show.console import print_rows, screen
from ..show.plan import plan_rows


@dataclass(frozen=True)
class Plan(ABC):
    """A recipe by the name and with the overrides that a person gave; it is read when it is first asked."""

    recipe: str
    overrides: Sequence[str] = ()

    @property
    @abstractmethod
    def stages(self) -> list[Recipe]:
        """List what is trained or measured on, each stage with its data."""

    @property
    @abstractmethod
    def least(self) -> int:
        """Count the fewest ranks it runs on."""

    @abstractmethod
    def problems(self, world: int) -> Iterable[str]:
        """List what is wrong on `world` ranks, whichever files are here."""

    @abstractmethod
    def print_tables(self, world: int, console: Console) -> None:
        """Say what would be done."""

    def missing(self) -> list[str]:
        """List the files that a real run reads and does not find."""
        return []

    def unread(self) -> list[str]:
        """List the fields of a stated `model.config` that transformers, imported for it, never reads."""
        stated = [stage.model for stage in self.stages if stage.model.config is not None]
        if not stated:
            return []
        problems = on_demand("train.model").config_problems
        return list(dict.fromkeys(problem for model in stated for problem in problems(model)))

    def check(self, world: int) -> None:
        """Raise all that stands in the way of a real run on `world` ranks."""
        raise_all(self.recipe, [*self.unread(), *self.problems(world), *self.missing()])

    def show(self, world: int | None, console: Console, *, more: Iterable[str] = ()) -> None:
        """Check for `world` ranks (if none is given, the fewest it runs on) and print the plan.

        `more` are problems that were found before.
        """
        world = world or self.least
        raise_all(self.recipe, [*more, *self.problems(world)])
        self.print_tables(world, console)
        for file in self.missing():
            console.print(f"not here yet: {file}", markup=False)

    def go_ahead(self, *, dry_run: bool, world: int | None) -> bool:
        """Check for the ranks that are here; a dry run shows the plan instead, and ends with that."""
        if dry_run:
            self.show(world, screen(), more=self.unread())
            return False
        refuse_world(world)
        self.check(world_size())
        return True


def refuse_world(world: int | None) -> None:
    """Refuse `--world` where torchrun decides: a setting without effect is an error."""
    if world is not None:
        raise RecipeError(
            f"--world: must come with --dry-run, got {world} alone; torchrun --nproc-per-node sets it"
        )


class RunPlan(Plan):
    """All stages of a recipe, trained one after the other."""

    @cached_property
    def whole(self) -> Recipe:
        return load(self.recipe, self.overrides)

    @property
    def stages(self) -> list[Recipe]:
        return stages(self.whole)

    @property
    def least(self) -> int:
        return max(max(stage.train.sequence, stage.eval.sequence) for stage in self.stages)

    def problems(self, world: int) -> Iterable[str]:
        return problems_of(self.whole, world)

    def missing(self) -> list[str]:
        return missing_files(self.whole)

    def print_tables(self, world: int, console: Console) -> None:
        for index, stage in enumerate(self.stages):
            title = f"{self.recipe}, stage {index}" if self.whole.stages else self.recipe
            print_rows(plan_rows(stage, world), console, title=title)


class MeasuringPlan(Plan):
    """What is measured on the held-out documents of a recipe's last stage."""

    @cached_property
    def stage(self) -> Recipe:
        return stages(load(self.recipe, self.overrides))[-1]

    @property
    def stages(self) -> list[Recipe]:
        return [self.stage]

    @property
    def least(self) -> int:
        return self.stage.eval.sequence

    @abstractmethod
    def rows(self) -> Iterator[tuple[str, str]]:
        """Say what would be measured, wherever it is."""

    def print_tables(self, world: int, console: Console) -> None:
        sequence = self.stage.eval.sequence
        layout = f"world {world} = data {world // sequence} x sequence {sequence}"
        print_rows([*self.rows(), ("layout", layout)], console, title=self.recipe)
