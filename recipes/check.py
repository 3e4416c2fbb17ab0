"""The verbs `recipes check` and `recipes diff`: what must hold in a recipe, and what sets two apart."""

from typing import Annotated

import typer

from ropewalk.recipes.cli import main
from ropewalk.recipes.jobs.comparison.plan import plan_of
from ropewalk.recipes.language.compose import load
from ropewalk.recipes.options import Json, Overrides, RecipeName, World
from ropewalk.recipes.show.console import screen, tell
from ropewalk.train.settings import differing


def check(recipe: RecipeName, overrides: Overrides = None, world: World = None) -> None:
    """Check a recipe's keys, model and layout, and print the plan."""
    lacking = plan_of(recipe, overrides or []).show(world, screen())
    print(f"{recipe}: ok" + (", but for what is not here yet" if lacking else ""))


def diff(
    ours: RecipeName,
    theirs: Annotated[str, typer.Argument(metavar="RECIPE", help="The recipe to compare with.")],
    as_json: Json = False,
) -> None:
    """Print the fields in which two resolved recipes differ."""
    lines = differing(*(load(recipe).model_dump(mode="json") for recipe in (ours, theirs)))
    values = {"ours": ours, "theirs": theirs, "difference": lines}
    tell(values, lambda *_: print("\n".join(lines) or "no difference"), as_json=as_json)


if __name__ == "__main__":
    main("recipes")
