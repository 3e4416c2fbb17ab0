"""The verbs `recipes list`, `show`, `check` and `diff`: recipes, resolved."""

from typing import Annotated

import typer
import yaml

from ropewalk.recipes.cli import main
from ropewalk.recipes.jobs.comparison.plan import plan_of
from ropewalk.recipes.language.catalogue import headline, shipped
from ropewalk.recipes.language.compose import compose, load
from ropewalk.recipes.language.schema import difference
from ropewalk.recipes.options import Json, Overrides, RecipeName, World
from ropewalk.recipes.show.console import print_table, screen, tell


def list_recipes(as_json: Json = False) -> None:
    """List the shipped recipes, each with what it does."""
    recipes = [{"name": file.stem, "about": headline(file), "file": str(file)} for file in shipped()]
    rows = [(recipe["name"], recipe["about"]) for recipe in recipes]
    tell(recipes, lambda _, console: print_table(("recipe", "what it does"), rows, console), as_json=as_json)


def show(recipe: RecipeName, overrides: Overrides = None, as_json: Json = False) -> None:
    """Print a recipe, with its bases, overrides and ${...} resolved."""
    values = compose(recipe, overrides or [])
    text = yaml.safe_dump(values, sort_keys=False, width=110)
    tell(values, lambda *_: print(text, end=""), as_json=as_json)


def check(recipe: RecipeName, overrides: Overrides = None, world: World = None) -> None:
    """Check a recipe's keys, model and layout, and print the plan."""
    plan_of(recipe, overrides or []).show(world, screen())
    print(f"{recipe}: ok")


def diff(
    ours: RecipeName,
    theirs: Annotated[str, typer.Argument(metavar="RECIPE", help="The recipe to compare with.")],
    as_json: Json = False,
) -> None:
    """Print the fields in which two resolved recipes differ."""
    lines = difference(load(ours), load(theirs))
    values = {"ours": ours, "theirs": theirs, "difference": lines}
    tell(values, lambda *_: print("\n".join(lines) or "no difference"), as_json=as_json)


if __name__ == "__main__":
    main("recipes")
