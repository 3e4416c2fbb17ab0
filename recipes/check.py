"""The verbs `recipes check` and `recipes diff`: what must hold in a recipe, and what sets two apart."""

from dataclasses import replace
from typing import Annotated

import typer

from ropewalk.recipes.cli import main
from ropewalk.recipes.jobs.comparison.complete import complete
from ropewalk.recipes.jobs.comparison.plan import plan_of
from ropewalk.recipes.jobs.plan import planned_machine
from ropewalk.recipes.language.errors import RecipeError
from ropewalk.recipes.language.schema import filled
from ropewalk.recipes.options import GpuMemory, HostMemory, Json, Overrides, RecipeName, World
from ropewalk.recipes.show.console import screen, tell
from ropewalk.train.settings import differing


def check(
    recipe: RecipeName,
    overrides: Overrides = None,
    world: World = None,
    gpu_memory: GpuMemory = None,
    host_memory: HostMemory = None,
) -> None:
    """Check a recipe's keys, model and layout, and print the plan."""
    machine = planned_machine(gpu_memory, host_memory, dry_run=True)
    lacking = replace(plan_of(recipe, overrides or []), machine=machine).show(world, screen())
    print(f"{recipe}: ok" + (", but for what is not here yet" if lacking else ""))


def diff(
    recipe: RecipeName,
    words: Annotated[
        list[str],
        typer.Argument(metavar="[RECIPE] [KEY=VALUE]...", help="The recipe to compare with, and overrides."),
    ],
    as_json: Json = False,
) -> None:
    """Print the fields in which two recipes differ, or one and itself overridden.

    Overrides beside two recipes are laid over both; beside one, it is compared with itself without them.
    """
    overrides = [word for word in words if "=" in word]
    others = [word for word in words if "=" not in word]
    if len(others) > 1:
        raise RecipeError(
            f"diff: must compare two recipes, got {' '.join([recipe, *others])}; leave out some"
        )
    other = others[0] if others else recipe
    ours, theirs = complete(recipe, overrides if others else []), complete(other, overrides)
    lines = differing(filled(ours)[0], filled(theirs)[0])
    values = {"ours": recipe, "theirs": other, "overrides": overrides, "difference": lines}
    tell(values, lambda *_: print("\n".join(lines) or "no difference"), as_json=as_json)


if __name__ == "__main__":
    main("recipes")
