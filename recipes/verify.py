"""The verb `verify`: what every reader computes from a folder, and what is wrong with it."""

from pathlib import Path
from typing import Annotated

import typer

from ropewalk.recipes.cli import main
from ropewalk.recipes.options import Json, place
from ropewalk.recipes.show.console import tell
from ropewalk.recipes.show.verify import as_values, print_report
from ropewalk.rope.engines import ENGINES, verify_folder


def verify(
    model: Annotated[
        Path, typer.Argument(metavar="MODEL", parser=place, help="A Hugging Face folder, ours or not.")
    ],
    engine: Annotated[
        str | None,
        typer.Option(help=f"{', '.join(ENGINES)}: this one must compute what was trained."),
    ] = None,
    target_length: Annotated[
        int | None, typer.Option(min=1, help="Window you mean to serve, tokens; the trained one if left out.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Show what each engine will compute from a folder, and what is wrong.

    No weights are loaded.
    """
    report = verify_folder(model, engines=(engine,) if engine else (), target_length=target_length)
    tell(as_values(report), lambda _, console: print_report(report, console), as_json=as_json)
    if not report.verified:
        raise typer.Exit(1)


if __name__ == "__main__":
    main("verify")
