"""How is a comparison printed: its plan before, its tables after?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ...eval import Task
from ...eval.wording import number
from ...train.crosscheck import missing_files
from ..compose import compose, load
from ..dry_run import raise_all, show_plan, tasks_of
from ..tables import print_rows
from .cells import Comparison
from .outcome import SELECTION
from .recipe import comparison_problems, read_comparison

Report = Mapping[str, Any]


def show_comparison(comparison: Comparison, world: int | None, console: Console) -> None:
    """Check a comparison for `world` ranks and print what it would do, by arithmetic alone."""
    template = comparison.template
    world = world or max(template.train.sequence, template.eval.sequence)
    raise_all(comparison.name, comparison_problems(comparison, world))
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
        tasks = tasks_of(comparison.recipes[factor])
        scored = sum(tokens_scored(task) for task in tasks.values())
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


def tokens_scored(task: Task) -> int:
    """Count the tokens a task forwards, from the settings that all tasks of documents or prompts share."""
    settings = vars(task)
    if "lengths" in settings:
        return sum(settings["lengths"]) * len(settings["depths"]) * settings["per_cell"]
    return settings.get("documents", 0) * settings.get("length", settings.get("stop", 0))


def print_comparison(report: Report, console: Console) -> None:
    """Print how each scheme took part, a table a measurement, and under which conditions they hold."""
    print_table(*settings_table(report), console, title=report["title"])
    for title, head, rows in measurements(report):
        console.print()
        print_table(head, rows, console, title=title)
    console.print()
    for note in report["notes"]:
        console.print(f"- {note}", markup=False, soft_wrap=True)


def settings_table(report: Report) -> tuple[list[str], list[list[str]]]:
    """Say for each scheme its stretch and knob at every factor, and its learning rate."""
    factors = [f"{factor:g}" for factor in report["factors"]]
    rows = [
        [
            one["scheme"],
            *(one["settings"][factor]["text"] for factor in factors),
            learning_rate(one),
        ]
        for one in report["schemes"]
    ]
    return ["scheme", *(f"{factor}x" for factor in factors), "learning rate"], rows


def learning_rate(one: Mapping[str, Any]) -> str:
    """Say the rate in force, and where it is the largest or smallest of several that were tried."""
    rate, tried = one["learning_rate"], [float(rate) for rate in one["selection_losses"]]
    if rate is None:
        return "not trained"
    edge = {max(tried): ", the largest tried", min(tried): ", the smallest tried"} if tried[1:] else {}
    return f"{rate:g}{edge.get(rate, '')}"


def measurements(report: Report) -> Iterator[tuple[str, list[str], list[list[str]]]]:
    """Make a table a measurement: schemes down, factors and modes across, a star where nobody is better."""
    for key in dict.fromkeys(measurement(row) for row in report["rankings"]):
        columns = [row for row in report["rankings"] if measurement(row) == key]
        columns.sort(key=lambda row: (row["factor"], row["mode"] == "trained"))
        head = ["scheme", *(f"{row['factor']:g}x {row['mode']}" for row in columns)]
        rows = [[one["scheme"], *(value_in(row, one) for row in columns)] for one in report["schemes"]]
        yield title_of(columns[0], report), head, rows


def measurement(row: Mapping[str, Any]) -> tuple[str, str, str]:
    return row["task"], row["part"], row["side"]


def title_of(row: Mapping[str, Any], report: Report) -> str:
    """Name a measurement over all factors."""
    part = f" ({row['part']})" if row["part"] else ""
    side = "up to" if row["side"] == "inside" else "beyond"
    what = "prompts" if row["lengths"] else "positions"
    return f"{row['label']}{part}, {what} {side} {report['boundary']} tokens"


def value_in(row: Mapping[str, Any], one: Mapping[str, Any]) -> str:
    """Write a scheme's value in a column; a twin has the one of the scheme it is the same as."""
    label = one["settings"][f"{row['factor']:g}"]["same_as"] or one["scheme"]
    if label not in row["values"]:
        return "-"
    return number(row["values"][label]["value"], row["unit"]) + (" *" if row["places"][label] == 1 else "")


def print_table(
    head: Sequence[str], rows: Sequence[Sequence[str]], console: Console, *, title: str | None = None
) -> None:
    table = Table(*head, box=None, pad_edge=False, title=title, title_justify="left")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    console.print(table)
