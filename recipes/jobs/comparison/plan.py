"""What does `compare` check and plan: the cells, and the tokens that they train on and score?"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property

from rich.console import Console

from ....train.storage import place_problems
from ...language.check import problems_of
from ...language.compose import compose
from ...language.files import missing_files, tokenizer_problems
from ...language.schema import Recipe
from ...show.console import print_rows, print_table
from ..plan import Plan, RunPlan
from ..stores import missing_text, near_problems, prepared, store_problems, unprepared
from .cells import SELECTION, Comparison
from .recipe import read_comparison


def plan_of(recipe: str, overrides: Sequence[str]) -> Plan:
    """Read any recipe, that of a comparison or of a run."""
    kind = ComparisonPlan if "compare" in compose(recipe, overrides) else RunPlan
    return kind(recipe, overrides)


class ComparisonPlan(Plan):
    """Every cell of a comparison, on one model and the same tokens."""

    script = "compare"

    @cached_property
    def comparison(self) -> Comparison:
        return read_comparison(self.recipe, self.overrides)

    @property
    def stages(self) -> list[Recipe]:
        """List a stage for each factor and seed."""
        return list(self.comparison.plans().values())

    @property
    def measured(self) -> Recipe:
        return self.comparison.template

    @property
    def least(self) -> int:
        template = self.comparison.template
        return math.lcm(template.train.sequence, template.eval.sequence)

    def problems(self, world: int) -> Iterable[str]:
        """List what is wrong between the keys of any cell, each problem once."""
        comparison, template = self.comparison, self.comparison.template
        cells = [comparison.cell(one) for several in comparison.contenders.values() for one in several]
        problems = [problem for cell in cells for problem in problems_of(cell.recipe, world)]
        problems += tokenizer_problems(template)
        problems += [*place_problems("run_dir", template.run_dir), *store_problems([template])]
        if template.model.path is None:
            problems.append(
                "model.path: must name trained weights to compare schemes on, got none; add path: FOLDER"
            )
        if not template.eval.tasks:
            problems.append(
                "eval.tasks: must name at least one task, got none; add one, e.g. kind: position_loss"
            )
        if not problems:
            problems += self.held_out_problems()
            folders = prepared(self) if comparison.section.trained else []
            problems += near_problems(self.stages, folders) if folders else []
        return dict.fromkeys(problems)

    def missing(self) -> list[str]:
        return missing_files(self.comparison.template)

    def lacking(self) -> list[str]:
        return [*self.missing(), *missing_text(self.stages), *unprepared(self)]

    def print_tables(self, world: int, console: Console) -> None:
        """Print what would be done, and how each scheme takes part at each factor."""
        comparison = self.comparison
        print_rows(plan_rows(comparison, world), console, title=self.recipe)
        by_factor = comparison.contenders.values()
        rows = [
            [several[0].label, *(one.setting for one in several)] for several in zip(*by_factor, strict=True)
        ]
        print_table(["scheme", *(f"{factor:g}x" for factor in comparison.contenders)], rows, console)


def plan_rows(comparison: Comparison, world: int) -> Iterator[tuple[str, str]]:
    """Count the cells of each factor and the tokens they train on and score."""
    train, section = comparison.template.train, comparison.section
    trained_all = scored_all = 0
    for factor, (free, trained) in comparison.count().items():
        tasks = comparison.recipes[factor].tasks
        scored = sum(task.tokens_scored() for task in tasks.values())
        steps = train.steps * train.batch_tokens
        trained_all, scored_all = trained_all + trained * steps, scored_all + (free + trained) * scored
        yield (
            f"{factor:g}x",
            f"{comparison.recipes[factor].target_length:,} tokens: {free} cells training-free and {trained} "
            f"trained, each {steps:,} tokens in {train.steps} steps; each scores {scored:,} tokens",
        )
    yield "in all", f"{trained_all:,} tokens trained, {scored_all:,} scored, on {world} ranks"
    yield "seeds", f"{section.seeds}" + (", a screening" if section.seeds == 1 else "")
    rates = ", ".join(f"{rate:g}" for rate in comparison.rates)
    if len(comparison.rates) > 1:
        rates += (
            f": one a scheme, by the loss at {section.middle:g}x on one in {SELECTION} held-out documents"
        )
    yield "rates", rates
    yield "writes", str(comparison.run_dir)
