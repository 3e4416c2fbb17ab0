"""The verb `rope search`: find factors for a recipe's model at its target length."""

from __future__ import annotations

import json
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

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

if TYPE_CHECKING:
    from rich.console import Console

    from ropewalk.recipes.jobs.found_factors import Found


class Method(StrEnum):
    """Name what is searched over, and by which loss."""

    longrope = "longrope"
    longrope2 = "longrope2"


class Algorithm(StrEnum):
    """Name how it is searched."""

    racing = "racing"
    published = "published"


def search(
    recipe: RecipeName,
    overrides: Overrides = None,
    method: Annotated[
        Method,
        typer.Option(help="longrope: loss of documents; longrope2: of needles, from a critical pair on."),
    ] = Method.longrope,
    algorithm: Annotated[
        Algorithm, typer.Option(help="racing: few documents first; published: every vector on all.")
    ] = Algorithm.racing,
    seed: Annotated[
        int, typer.Option(min=0, help="Seed of the search; the documents do not depend on it.")
    ] = 0,
    documents: Annotated[
        int | None, typer.Option(min=1, help="Held-out documents to search on [longrope 5, longrope2 10].")
    ] = None,
    tokens: Annotated[
        int | None, typer.Option(min=1, help="Stop before more tokens than this are read; more continues it.")
    ] = None,
    first_tokens: Annotated[
        bool, typer.Option("--first-tokens", help="Also search how many first tokens keep their positions.")
    ] = False,
    dry_run: DryRun = False,
    world: World = None,
    as_json: Json = False,
) -> None:
    """Search a factor for each frequency, from where it stopped, and write a file that a recipe can name."""
    from ropewalk.recipes.jobs.factor_search import Search, check_search, run_search, search_rows
    from ropewalk.recipes.jobs.stores import require_corpus
    from ropewalk.recipes.language.compose import load
    from ropewalk.recipes.language.schema import stages
    from ropewalk.recipes.show.tables import print_rows

    stage = stages(load(recipe, overrides or []))[-1]
    wanted = Search(
        method=method.value,
        algorithm=algorithm.value,
        seed=seed,
        documents=documents or (5 if method is Method.longrope else 10),
        tokens=tokens,
        first_tokens=first_tokens,
    )
    if not dry_run:
        refuse_world_without_dry_run(world)
    ranks = (world or stage.eval.sequence) if dry_run else world_size()
    check_search(stage, wanted, ranks, where=recipe)
    if dry_run:
        print_rows(search_rows(stage, wanted, ranks), screen(), title=recipe)
        return
    store = require_corpus(stage, recipe=recipe, overrides=overrides or [])
    found = run_search(stage, wanted, store=store)
    if found is None or rank() != 0:
        return
    if as_json:
        print(json.dumps(found.json(), indent=2))
    else:
        print_found(found, screen())


def print_found(found: Found, console: Console) -> None:
    """Print the found vector beside the seeds, and what it cost."""
    from rich.table import Table

    table = Table("scheme", f"searched on ({found.searched})", box=None, pad_edge=False)
    table.add_column(f"held out ({found.checked})")
    table.add_column("the found vector is better by")
    for row in found.rows:
        gain = row.gain
        told = "" if gain is None else f"{gain.estimate:+.4f} [{gain.low:+.4f}, {gain.high:+.4f}]"
        hedge = "" if gain is None or gain.distinguishable else " not distinguishable"
        table.add_row(row.name, f"{row.searched:.4f}", f"{row.held_out:.4f}", told + hedge)
    console.print(table)
    console.print(found.verdict(), markup=False)
    console.print(f"rope: {{kind: longrope, factors: {found.file}}}", markup=False)


if __name__ == "__main__":
    from ropewalk.recipes.cli import main

    main("rope", "search")
