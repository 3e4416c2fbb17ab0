"""The verb `evaluate`: the tasks of a recipe on any Hugging Face folder, with any scheme."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ropewalk.recipes.language.errors import RecipeError
from ropewalk.recipes.options import (
    DryRun,
    Json,
    Overrides,
    World,
    rank,
    refuse_world_without_dry_run,
    screen,
    world_size,
)

if TYPE_CHECKING:
    from rich.console import Console

    from ropewalk.eval.result import Evaluation


def evaluate(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="A Hugging Face folder.")],
    recipe: Annotated[str, typer.Option(help="The recipe whose eval tasks and held-out documents are used.")],
    overrides: Overrides = None,
    scheme: Annotated[
        str | None,
        typer.Option(
            metavar="KIND[,KNOB=VALUE]...", help="Replace the model's scheme; as it is if left out."
        ),
    ] = None,
    dry_run: DryRun = False,
    world: World = None,
    as_json: Json = False,
) -> None:
    """Measure a model on a recipe's tasks and held-out documents, as it is or with another scheme."""
    from ropewalk.recipes.jobs.evaluation import check_evaluation, evaluation_rows, measure
    from ropewalk.recipes.jobs.stores import require_corpus
    from ropewalk.recipes.language.compose import load
    from ropewalk.recipes.language.schema import stages
    from ropewalk.recipes.show.tables import print_rows

    stage = stages(load(recipe, overrides or []))[-1]
    chosen = read_scheme(scheme) if scheme else None
    if not dry_run:
        refuse_world_without_dry_run(world)
    ranks = (world or stage.eval.sequence) if dry_run else world_size()
    check_evaluation(stage, model, ranks, where=recipe)
    if dry_run:
        print_rows(evaluation_rows(stage, model, chosen, ranks), screen(), title=recipe)
        return
    store = require_corpus(stage, recipe=recipe, overrides=overrides or [])
    measured = measure(stage, model, chosen, store=store)
    if as_json and rank() == 0:
        print(json.dumps(as_told(measured), indent=2))
    elif not as_json:
        print_scores(measured, screen())


def read_scheme(text: str) -> Any:
    """Read `yarn,beta_fast=16` as a scheme."""
    from ropewalk.recipes.language.yaml_text import parse_yaml
    from ropewalk.rope import make_scheme

    kind, *knobs = text.split(",")
    pairs = [knob.partition("=") for knob in knobs]
    for name, sign, _ in pairs:
        if not sign:
            raise RecipeError(f"--scheme: a knob must be name=value, got {name!r}; write {kind},factor=8")
    return make_scheme(kind, **{name: parse_yaml(value, where="--scheme") for name, _, value in pairs})


def as_told(measured: Evaluation) -> dict[str, Any]:
    """Give the evaluation as JSON values: `scores, model, scheme, fingerprint` and all beside them."""
    return {**measured.json(), "scores": [asdict(score) for score in measured.scores]}


def print_scores(measured: Evaluation, console: Console) -> None:
    """Print every score with its interval."""
    from rich.table import Table

    knobs = "".join(f" {name}={value}" for name, value in measured.knobs.items())
    console.print(
        f"{measured.model}: {measured.scheme}{knobs}, weights {measured.fingerprint[:12]}, "
        f"corpus {measured.corpus[:12]}, {measured.seconds:.0f} s",
        markup=False,
    )
    table = Table(
        "task", "part", "positions", "depth", "value", "95 % interval", "n", box=None, pad_edge=False
    )
    for score in measured.scores:
        depth = "" if score.depth is None else f"{score.depth:.2f}"
        interval = f"{score.low:.3f} to {score.high:.3f}"
        span = f"{score.start:,} to {score.length - 1:,}"
        table.add_row(score.task, score.part, span, depth, f"{score.value:.3f}", interval, str(score.n))
    console.print(table)


if __name__ == "__main__":
    from ropewalk.recipes.cli import main

    main("evaluate")
