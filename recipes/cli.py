"""The command `ropewalk`: mounts the verbs and turns an error for people into one message and exit code 2."""

import os
import sys
import warnings
from typing import Any

import typer
from typer.core import TyperGroup

from . import compare, convert, evaluate, extend, prepare, recipes, rope, verify
from .options import rank

PACKAGE = __name__.partition(".")[0]


class Verbs(TyperGroup):
    """Say what a person must change without a traceback; under torchrun only rank 0 says it."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except ValueError as error:
            if not is_for_people(error):
                raise
            if rank() == 0:
                typer.echo(str(error), err=True)
            raise typer.Exit(2) from None


app = typer.Typer(
    name="ropewalk",
    cls=Verbs,
    help="Give a pretrained language model a longer window, and measure what that gained and cost.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command()(extend.extend)
app.command()(compare.compare)
app.command()(evaluate.evaluate)
app.command()(prepare.prepare)
app.command()(convert.convert)
app.command()(verify.verify)
app.add_typer(rope.app, name="rope")
app.add_typer(recipes.app, name="recipes")


def is_for_people(error: ValueError) -> bool:
    """Tell the errors of our rooms, and pydantic's, from those of a mistake in the code."""
    raised_by = type(error).__module__
    return raised_by.startswith((f"{PACKAGE}.", "pydantic"))


def quiet_libraries() -> None:
    """Keep other libraries' bars, and their notices to each other, out of what a person reads."""
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    # torch 2.13 renames collectives that DeepSpeed 0.19 calls at every step
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"torch\.distributed")


def main(*verb: str) -> None:
    """Run the command line; a verb's own script names its verb."""
    quiet_libraries()
    app(args=[*verb, *sys.argv[1:]], prog_name="ropewalk")
