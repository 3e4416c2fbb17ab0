"""How is a comparison printed: its plan before, its tables after?"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ....eval.report.schemes import measurements, settings_table
from ...language.check import missing_files
from ...language.compose import compose, load
from ...language.errors import raise_all
from ...show.plan import show_plan
from ...show.tables import print_rows
from .cells import Comparison
from .outcome import SELECTION
from .recipe import comparison_problems, read_comparison

Report = Mapping[str, Any]


def show_comparison(
    comparison: Comparison, world: int | None, console: Console, *, more: Iterable[str] = ()
) -> None:
    """Check a comparison for `world` ranks and print what it would do, by arithmetic alone."""
    template = comparison.template
    world = world or max(template.train.sequence, template.eval.sequence)
    raise_all(comparison.name, [*more, *comparison_problems(comparison, world)])
    print_rows(plan_rows(comparison, world), console, title=comparison.name)
    factors = [f"{factor:g}" for factor in comparison.section.factors]
    settings = {
        entry.label: [
            next(c.setting for c in comparison.contenders[f] if c.label == entry.label)
            for f in comparison.section.factors
        ]
        for entry in comparison.section.schemes
    }
    rows = [[label, *texts] for label, texts in settings.items()]
    print_table(["scheme", *(f"{factor}x" for factor in factors)], rows, console)
    for missing in missing_files(template):
        console.print(f"not here yet: {missing}", markup=False)


def show_any_plan(recipe: str, overrides: Sequence[str], world: int | None, console: Console) -> None:
    """Check any recipe and print its plan, that of a comparison or of a run."""
    if "compare" in compose(recipe, overrides):
        show_comparison(read_comparison(recipe, overrides), world, console)
    else:
        show_plan(load(recipe, overrides), world, console, where=recipe)


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


def print_comparison(report: Report, console: Console) -> None:
    """Print how each scheme took part, a table a measurement, and under which conditions they hold."""
    print_table(*settings_table(report), console, title=report["title"])
    for title, head, rows in measurements(report):
        console.print()
        print_table(head, rows, console, title=title)
    console.print()
    for note in report["notes"]:
        console.print(f"- {note}", markup=False, soft_wrap=True)


def print_table(
    head: Sequence[str], rows: Sequence[Sequence[str]], console: Console, *, title: str | None = None
) -> None:
    table = Table(*head, box=None, pad_edge=False, title=title, title_justify="left")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    console.print(table)
