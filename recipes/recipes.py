"""The verb `recipes`: list, show, check and compare recipes, resolved."""

import json
from typing import Annotated

import typer

from ropewalk.recipes.options import Json, Overrides, RecipeName, World, screen

app = typer.Typer(help="List, show, check and compare recipes.", no_args_is_help=True)


@app.command("list")
def list_recipes(as_json: Json = False) -> None:
    """List the shipped recipes, each with what it does."""
    from rich.table import Table

    from ropewalk.recipes.language.catalogue import headline, shipped

    rows = [{"name": file.stem, "about": headline(file), "file": str(file)} for file in shipped()]
    if as_json:
        print(json.dumps(rows, indent=2))
        return
    table = Table("recipe", "what it does", box=None, pad_edge=False)
    for row in rows:
        table.add_row(row["name"], row["about"])
    screen().print(table)


@app.command()
def show(recipe: RecipeName, overrides: Overrides = None, as_json: Json = False) -> None:
    """Print a recipe with its bases, overrides and interpolations resolved."""
    import yaml

    from ropewalk.recipes.language.compose import compose

    values = compose(recipe, overrides or [])
    print(
        json.dumps(values, indent=2) if as_json else yaml.safe_dump(values, sort_keys=False, width=110),
        end="",
    )


@app.command()
def check(recipe: RecipeName, overrides: Overrides = None, world: World = None) -> None:
    """Check a recipe's keys, its model and its layout for a world of ranks, and print the plan."""
    from ropewalk.recipes.jobs.comparison.show import show_any_plan

    show_any_plan(recipe, overrides or [], world, screen())
    print(f"{recipe}: ok")


@app.command()
def diff(
    ours: RecipeName,
    theirs: Annotated[str, typer.Argument(metavar="RECIPE", help="The recipe to compare with.")],
    as_json: Json = False,
) -> None:
    """Print the fields in which two resolved recipes differ."""
    from ropewalk.recipes.language.compose import load
    from ropewalk.train.settings import differing

    lines = differing(*(load(recipe).model_dump(mode="json") for recipe in (ours, theirs)))
    if as_json:
        print(json.dumps({"ours": ours, "theirs": theirs, "difference": lines}, indent=2))
        return
    print("\n".join(lines) or "no difference")


if __name__ == "__main__":
    from ropewalk.recipes.cli import main

    main("recipes")
