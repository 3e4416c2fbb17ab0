"""The verb `extend`: the whole run of a recipe, `torchrun --nproc-per-node 8 recipes/extend.py RECIPE`."""

from ropewalk.recipes.options import (
    DryRun,
    Overrides,
    RecipeName,
    World,
    refuse_world_without_dry_run,
    screen,
    world_size,
)


def extend(
    recipe: RecipeName, overrides: Overrides = None, dry_run: DryRun = False, world: World = None
) -> None:
    """Extend a model by a recipe: train on the prepared data, measure, report; the same command resumes."""
    from ropewalk.recipes.jobs.stores import require_prepared
    from ropewalk.recipes.language.check import check
    from ropewalk.recipes.language.compose import load
    from ropewalk.recipes.language.schema import stages
    from ropewalk.recipes.show.plan import show_plan
    from ropewalk.train.model import config_problems

    loaded = load(recipe, overrides or [])
    resolved = stages(loaded)
    unread = [problem for stage in resolved for problem in config_problems(stage.model)]
    if dry_run:
        show_plan(loaded, world, screen(), where=recipe, more=unread)
        return
    refuse_world_without_dry_run(world)
    check(loaded, world_size(), where=recipe, more=unread)
    plans = require_prepared(resolved, recipe=recipe, overrides=overrides or [])

    from ropewalk.recipes.jobs.extension import run_extension
    from ropewalk.train.mesh import Mesh, in_world

    with in_world():
        mesh = Mesh.of_world(sequence=resolved[0].train.sequence)
        run_extension(recipe, resolved, plans, mesh, screen())


if __name__ == "__main__":
    from ropewalk.recipes.cli import main

    main("extend")
