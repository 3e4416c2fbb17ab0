"""What does a verb with a recipe do before its work? Check it for a world of ranks, or print what would be.

Everything here comes from the recipe, the model's config and arithmetic.
"""

from __future__ import annotations

import math
import os
import shlex
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar

from rich.console import Console

from ...train.budget import UNKNOWN, Machine
from ...train.errors import TrainError
from ...train.progress import latest_checkpoint, read_progress
from ...train.storage import place_problems
from ..language.check import problems_between
from ..language.compose import dropped, load, read_draft, refuse
from ..language.errors import RecipeError
from ..language.files import missing_files, tokenizer_problems
from ..language.schema import Draft, Recipe, stages
from ..options import on_demand, world_size
from ..show.budget import too_large
from ..show.console import print_rows, screen
from ..show.plan import plan_rows
from .stores import (
    held_out_problems,
    label_problems,
    missing_text,
    near_problems,
    prepared,
    store_problems,
    unprepared,
)


@dataclass(frozen=True)
class Plan(ABC):
    """A recipe by the name and with the overrides that a person gave; it is read when it is first asked."""

    script: ClassVar[str]
    """The verb that does it, by its file."""
    recipe: str
    overrides: Sequence[str] = ()
    machine: Machine = UNKNOWN
    """Memory of the GPUs and hosts that it is planned for."""

    @property
    @abstractmethod
    def stages(self) -> list[Recipe]:
        """List what is trained or measured on, each stage with its data."""

    @property
    def drafted(self) -> list[Recipe]:
        """List the same, where a stage that is wrong in part may have only its sound sections."""
        return self.stages

    @property
    def measured(self) -> Recipe:
        """Give the stage whose tasks are measured on its held-out documents."""
        return self.stages[-1]

    @property
    @abstractmethod
    def least(self) -> int:
        """Count the fewest ranks it runs on."""

    @property
    def words(self) -> list[str]:
        """Give the arguments that ask for it."""
        return [self.recipe, *self.overrides]

    @abstractmethod
    def problems(self, world: int) -> Iterable[str]:
        """List what is wrong on `world` ranks, whichever files are here."""

    @abstractmethod
    def print_tables(self, world: int, console: Console) -> None:
        """Say what would be done."""

    def missing(self) -> list[str]:
        """List the files of the model that a real run reads and does not find."""
        return []

    def lacking(self) -> list[str]:
        """List all that a real run needs and does not find."""
        return self.missing()

    def unread(self) -> list[str]:
        """List the fields of a stated `model.config` that transformers, imported for it, never reads."""
        models = [stage.model for stage in self.drafted if "model" in stage.sound]
        stated = [model for model in models if model.config is not None]
        if not stated:
            return []
        problems = on_demand("train.model").config_problems
        return list(dict.fromkeys(problem for model in stated for problem in problems(model)))

    def held_out_problems(self) -> list[str]:
        """List what tokenised text does not hold out for the tasks; nothing where there is none yet."""
        lacking = self._no_tokenizer() or unprepared(self, plans=False)
        return [] if lacking else held_out_problems(self.measured)

    def _no_tokenizer(self) -> list[str]:
        return [line for line in self.missing() if line.startswith("model.tokenizer")]

    def refuse(self, problems: Iterable[str]) -> None:
        """Raise one error that lists all problems, if there are any."""
        refuse(self.recipe, self.overrides, problems)

    def wrong(self, world: int) -> list[str]:
        """List what no run on `world` ranks gets past, wherever it is made."""
        return [*self.unread(), *self.problems(world)]

    def check(self, world: int) -> None:
        """Raise all that stands in the way of a real run on `world` ranks."""
        self.refuse([*self.wrong(world), *self.lacking()])

    def check_data(self) -> None:
        """Raise all that stands in the way of preparing, and of training on what would be prepared."""
        wrong = self.wrong(self.least)
        known = [stage for stage in self.drafted if stage.sound >= {"data", "run_dir"}]
        self.refuse([*wrong, *self._no_tokenizer(), *missing_text(known)])

    def show(self, world: int | None, console: Console, *, lacking: Iterable[str] | None = None) -> list[str]:
        """Check for `world` ranks (if none is given, the fewest it runs on) and print the plan.

        What will be needed and is not here, for a run where nothing else is said, is printed and returned.
        """
        world = world or self.least
        self.refuse(self.wrong(world))
        self.print_tables(world, console)
        self.tell_dropped(console)
        lines = list(dict.fromkeys(self.lacking() if lacking is None else lacking))
        for line in lines:
            console.print(f"not here yet: {line}", markup=False, soft_wrap=True)
        return lines

    def go_ahead(self, *, dry_run: bool, world: int | None) -> bool:
        """Check for the ranks that are here; a dry run shows the plan instead, and ends with that."""
        if dry_run:
            self.show(world, screen())
            return False
        refuse_world(world)
        if "RANK" not in os.environ and self.least > 1:
            self.refuse([*self.wrong(self.least), *self.lacking(), self._alone])
        self.check(world_size())
        self.tell_dropped(screen())
        return True

    def tell_dropped(self, console: Console) -> None:
        """Say what overrides take away without naming it."""
        for line in dropped(self.recipe, self.overrides):
            console.print(f"note {line}", markup=False, soft_wrap=True)

    @property
    def _alone(self) -> str:
        """Say with which command the ranks come that it needs."""
        launch = ["torchrun", "--nproc-per-node", str(self.least), "-m", f"ropewalk.recipes.{self.script}"]
        return (
            f"must be run by {self.least} ranks or a multiple, as train.sequence and eval.sequence ask, got "
            f"one process; run: {shlex.join([*launch, *self.words])}"
        )


def planned_machine(gpu_memory: float | None, host_memory: float | None, *, dry_run: bool) -> Machine:
    """Take the memory of a machine that is planned for; a run finds its own."""
    for option, given in (("--gpu-memory", gpu_memory), ("--host-memory", host_memory)):
        if given is not None and not dry_run:
            raise RecipeError(f"{option}: must come with --dry-run, got {given:g} GiB alone; add it")
        if given is not None and not math.isfinite(given):
            raise RecipeError(f"{option}: must be a finite number of GiB, got {given}; leave it out instead")
    return Machine.of_gib(gpu_memory, host_memory)


def refuse_world(world: int | None) -> None:
    """Refuse `--world` where torchrun decides: a setting without effect is an error."""
    if world is not None:
        raise RecipeError(
            f"--world: must come with --dry-run, got {world} alone; torchrun --nproc-per-node sets it"
        )


class RunPlan(Plan):
    """All stages of a recipe, trained one after the other."""

    script = "extend"

    @cached_property
    def draft(self) -> Draft:
        return read_draft(self.recipe, self.overrides)

    @property
    def drafted(self) -> list[Recipe]:
        return self.draft.stages

    @property
    def stages(self) -> list[Recipe]:
        self.refuse(self.draft.problems)
        return self.draft.stages

    @property
    def least(self) -> int:
        sections = [getattr(stage, key) for stage in self.drafted for key in stage.sound & {"train", "eval"}]
        return math.lcm(*(section.sequence for section in sections))

    def problems(self, world: int) -> Iterable[str]:
        first, last = self.drafted[0], self.drafted[-1]
        lines = [*self.draft.problems, *problems_between(self.drafted, world)]
        lines += {problem: None for stage in self.drafted for problem in tokenizer_problems(stage)}
        if "run_dir" in first.sound:
            lines += place_problems("run_dir", last.run_dir)
            lines += store_problems([stage for stage in self.drafted if "data" in stage.sound])
        lines = lines or [line for stage in self.stages for line in too_large(stage, world, self.machine)]
        return lines or list(self._problems_of_earlier_work())

    def _problems_of_earlier_work(self) -> Iterator[str]:
        """Find what prepared data lacks for this run, and what of a run that was stopped is another's."""
        yield from self.held_out_problems()
        if folders := prepared(self):
            yield from near_problems(self.stages, folders)
            yield from label_problems(self.stages, folders)
        try:
            if folder := latest_checkpoint(Path(self.stages[-1].run_dir)):
                read_progress(folder, [stage.stage for stage in self.stages])
        except TrainError as error:
            yield str(error)

    def missing(self) -> list[str]:
        return missing_files(self.drafted[0])

    def lacking(self) -> list[str]:
        if self.draft.problems:
            return self.missing()
        return [*self.missing(), *missing_text(self.stages), *unprepared(self)]

    def print_tables(self, world: int, console: Console) -> None:
        for index, stage in enumerate(self.stages):
            title = f"{self.recipe}, stage {index}" if len(self.stages) > 1 else self.recipe
            print_rows(plan_rows(stage, world, self.machine), console, title=title)


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
