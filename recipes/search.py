"""The verb `rope search`: find factors for a recipe's model at its target length."""

from enum import StrEnum
from typing import Annotated

import typer

from ropewalk.recipes.cli import main
from ropewalk.recipes.jobs.search_plan import Search, SearchPlan
from ropewalk.recipes.jobs.stores import require_corpora
from ropewalk.recipes.options import DryRun, Json, Overrides, RecipeName, World, on_demand
from ropewalk.recipes.show.console import tell
from ropewalk.recipes.show.results import print_search


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
    """Search a factor for each frequency, for a file that recipes can name.

    The same command goes on with a search that was stopped.
    """
    asked = Search(
        method=method.value,
        algorithm=algorithm.value,
        seed=seed,
        documents=documents or (5 if method is Method.longrope else 10),
        tokens=tokens,
        first_tokens=first_tokens,
    )
    plan = SearchPlan(recipe, overrides or [], search=asked)
    if plan.go_ahead(dry_run=dry_run, world=world):
        [store] = require_corpora(plan)
        result = on_demand("recipes.jobs.factor_search").run_search(plan.stage, asked, store=store)
        tell(result, print_search, as_json=as_json)


if __name__ == "__main__":
    main("rope", "search")
