"""The verb `evaluate`: the tasks of a recipe on any Hugging Face folder, with any scheme."""

from pathlib import Path
from typing import Annotated

import typer

from ropewalk.recipes.cli import main
from ropewalk.recipes.jobs.evaluation_plan import EvaluationPlan, read_scheme
from ropewalk.recipes.jobs.stores import require_corpora
from ropewalk.recipes.options import DryRun, Json, Overrides, World, on_demand, place
from ropewalk.recipes.show.console import tell
from ropewalk.recipes.show.results import print_scores


def evaluate(
    model: Annotated[Path, typer.Argument(metavar="MODEL", parser=place, help="A Hugging Face folder.")],
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
    """Measure a model on a recipe's tasks, as it is or with another scheme."""
    chosen = read_scheme(scheme) if scheme else None
    plan = EvaluationPlan(recipe, overrides or [], model=model, scheme=chosen)
    if plan.go_ahead(dry_run=dry_run, world=world):
        [store] = require_corpora(plan)
        scores = on_demand("recipes.jobs.evaluation").measure(plan.stage, model, chosen, store=store)
        tell(scores, print_scores, as_json=as_json)


if __name__ == "__main__":
    main("evaluate")
