"""The verb `compare`: schemes on identical data, `torchrun --nproc-per-node 2 recipes/compare.py RECIPE`."""

import json
from typing import Annotated

import typer

from ropewalk.recipes.options import (
    DryRun,
    Json,
    Overrides,
    RecipeName,
    World,
    rank,
    refuse_world_without_dry_run,
    screen,
    world_size,
)


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
    """Compare schemes on one model, training-free and trained, on the same tokens and the same items."""
    from ropewalk.recipes.jobs.comparison.recipe import check_comparison, read_comparison
    from ropewalk.recipes.jobs.comparison.show import show_comparison
    from ropewalk.recipes.jobs.stores import require_prepared
    from ropewalk.train.model import config_problems

    given = [*(overrides or []), *([] if seeds is None else [f"compare.seeds={seeds}"])]
    comparison = read_comparison(recipe, given)
    unread = list(config_problems(comparison.template.model))
    if dry_run:
        show_comparison(comparison, world, screen(), more=unread)
        return
    refuse_world_without_dry_run(world)
    check_comparison(comparison, world_size(), more=unread)
    stages = comparison.plans()
    plans = require_prepared(list(stages.values()), recipe=recipe, overrides=given)

    from ropewalk.eval.report.write import write_comparison
    from ropewalk.recipes.jobs.comparison.report import build_report
    from ropewalk.recipes.jobs.comparison.run import run_comparison
    from ropewalk.recipes.jobs.comparison.show import print_comparison
    from ropewalk.recipes.jobs.extension import command_line
    from ropewalk.train.mesh import Mesh, in_world

    with in_world():
        mesh = Mesh.of_world(sequence=comparison.template.train.sequence)
        console = screen(stderr=as_json)
        found = run_comparison(comparison, dict(zip(stages, plans, strict=True)), mesh, console)
        if rank() == 0:
            report = build_report(comparison, found, command=command_line())
            files = write_comparison(report, comparison.run_dir)
            print_comparison(report, console)
            console.print(f"\nreport: {files[-1]}", markup=False, soft_wrap=True)
            if as_json:
                print(json.dumps(report, indent=2))


if __name__ == "__main__":
    from ropewalk.recipes.cli import main

    main("compare")
