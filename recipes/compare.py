"""The verb `compare`: schemes on identical data, `torchrun --nproc-per-node 2 recipes/compare.py RECIPE`."""

from typing import Annotated

import typer

from ropewalk.recipes.cli import main
from ropewalk.recipes.jobs.comparison.plan import ComparisonPlan
from ropewalk.recipes.jobs.stores import require_prepared
from ropewalk.recipes.options import DryRun, Json, Overrides, RecipeName, World, on_demand, rank
from ropewalk.recipes.show.console import screen
from ropewalk.train.storage import strict_json


def compare(
    recipe: RecipeName,
    overrides: Overrides = None,
    seeds: Annotated[
        int | None, typer.Option(min=1, help="Seeds of the training data: compare.seeds=N.")
    ] = None,
    dry_run: DryRun = False,
    world: World = None,
    as_json: Json = False,
) -> None:
    """Compare schemes on one model, training-free and trained, like with like.

    All meet the same tokens and the same items.
    """
    given = [*(overrides or []), *([] if seeds is None else [f"compare.seeds={seeds}"])]
    plan = ComparisonPlan(recipe, given)
    if plan.go_ahead(dry_run=dry_run, world=world):
        plans = dict(zip(plan.comparison.plans(), require_prepared(plan), strict=True))
        run_comparison = on_demand("recipes.jobs.comparison.run").run_comparison
        report = run_comparison(plan.comparison, plans, screen(stderr=as_json))
        if as_json and rank() == 0:
            print(strict_json("stdout", report, indent=2))


if __name__ == "__main__":
    main("compare")
