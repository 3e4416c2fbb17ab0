"""The verb `extend`: the whole run of a recipe, `torchrun --nproc-per-node 8 recipes/extend.py RECIPE`."""

from ropewalk.recipes.cli import main
from ropewalk.recipes.jobs.plan import RunPlan, planned_machine
from ropewalk.recipes.jobs.stores import require_prepared, tell_seen
from ropewalk.recipes.options import DryRun, GpuMemory, HostMemory, Overrides, RecipeName, World, on_demand
from ropewalk.recipes.show.console import screen


def extend(
    recipe: RecipeName,
    overrides: Overrides = None,
    dry_run: DryRun = False,
    world: World = None,
    gpu_memory: GpuMemory = None,
    host_memory: HostMemory = None,
) -> None:
    """Extend a model by a recipe: train on the prepared data, measure, report.

    The same command goes on with a run that was stopped.
    """
    machine = planned_machine(gpu_memory, host_memory, dry_run=dry_run)
    plan = RunPlan(recipe, overrides or [], machine)
    if dry_run:
        plan.go_ahead(dry_run=True, world=world)
        tell_seen(plan)
    elif plan.go_ahead(dry_run=dry_run, world=world):
        folders = require_prepared(plan)
        on_demand("recipes.jobs.extension").run_extension(recipe, plan.stages, folders, screen())


if __name__ == "__main__":
    main("extend")
