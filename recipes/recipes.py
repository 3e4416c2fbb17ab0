"""The verbs `recipes list` and `recipes show`: which there are, and what each says with its bases."""

from typing import Annotated

import typer
import yaml

from ropewalk.recipes.cli import main
from ropewalk.recipes.jobs.comparison.complete import complete
from ropewalk.recipes.language.catalogue import headline, shipped
from ropewalk.recipes.language.compose import compose
from ropewalk.recipes.options import Json, Overrides, RecipeName
from ropewalk.recipes.show.console import print_table, tell


def list_recipes(as_json: Json = False) -> None:
    """List the shipped recipes, each with what it does."""
    recipes = [{"name": file.stem, "about": headline(file), "file": str(file)} for file in shipped()]
    rows = [(recipe["name"], recipe["about"]) for recipe in recipes]
    tell(recipes, lambda _, console: print_table(("recipe", "what it does"), rows, console), as_json=as_json)


def show(
    recipe: RecipeName,
    overrides: Overrides = None,
    everything: Annotated[bool, typer.Option("--all", help="With every default, and every knob.")] = False,
    as_json: Json = False,
) -> None:
    """Print a recipe, with its bases, overrides and ${...} resolved."""
    values = (complete if everything else compose)(recipe, overrides or [])
    text = yaml.safe_dump(values, sort_keys=False, width=110)
    tell(values, lambda *_: print(text, end=""), as_json=as_json)


if __name__ == "__main__":
    main("recipes")
