"""The command `ropewalk`: which verbs are there, and how does an error for people end?

A verb's module is imported when the verb is called, from the name that stands here: the command starts at
once, and the verbs, whose own scripts call `main`, are not imported by what they import.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Mapping
from importlib import import_module
from typing import Any, NamedTuple

import typer
from typer.core import TyperGroup
from typer.main import get_command

from .options import rank

PACKAGE = __name__.partition(".")[0]


class Verb(NamedTuple):
    """Where a verb is among the recipes, `module:function` or one name for both, and what it does."""

    place: str
    about: str


class Group(NamedTuple):
    """Verbs that share their first word."""

    verbs: Mapping[str, Verb | Group]
    about: str


VERBS = Group(
    {
        "extend": Verb("extend", "Extend a model by a recipe: train on the prepared data, measure, report."),
        "compare": Verb(
            "compare", "Compare schemes on one model, training-free and trained, like with like."
        ),
        "evaluate": Verb("evaluate", "Measure a model on a recipe's tasks, as it is or with another scheme."),
        "prepare": Verb("prepare", "Prepare a recipe's data; print what was asked, got and left out."),
        "convert": Verb("convert", "Write a checkpoint as a folder for plain transformers, and verify it."),
        "verify": Verb("verify", "Show what each engine will compute from a folder, and what is wrong."),
        "rope": Group(
            {
                "list": Verb(
                    "rope:list_schemes",
                    "List every scheme: its paper, its knobs, and which engine serves it.",
                ),
                "show": Verb("rope:show", "Show what a scheme does to a model's frequencies, and draw it."),
                "search": Verb(
                    "search", "Search a factor for each frequency, for a file that recipes can name."
                ),
            },
            "List RoPE schemes, show what they compute, search one.",
        ),
        "recipes": Group(
            {
                "list": Verb("recipes:list_recipes", "List the shipped recipes, each with what it does."),
                "show": Verb(
                    "recipes:show", "Print a recipe, with its bases, overrides and ${...} resolved."
                ),
                "check": Verb(
                    "recipes:check", "Check a recipe's keys, model and layout, and print the plan."
                ),
                "diff": Verb("recipes:diff", "Print the fields in which two resolved recipes differ."),
            },
            "List, show, check and compare recipes.",
        ),
    },
    "Give a pretrained language model a longer window, and measure what that gained and cost.",
)


class Verbs(TyperGroup):
    """Import a verb when it is called; say what a person must change without a traceback, on rank 0 alone."""

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        entry: Any = self.commands.get(cmd_name)
        return command(cmd_name, entry) if isinstance(entry, Verb | Group) else entry

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        entries: Any = self.commands.items()
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry.about) for name, entry in entries])

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except ValueError as error:
            if not is_for_people(error):
                raise
            if rank() == 0:
                typer.echo(str(error), err=True)
            raise typer.Exit(2) from None


def command(name: str, entry: Verb | Group) -> Any:
    """Make what runs a verb; of several that share their first word, a group.

    Help and errors are plain text: Rich would need 0.1 s for frames, and takes `[8]` in a text for markup.
    """
    if isinstance(entry, Group):
        verbs: Any = dict(entry.verbs)
        return Verbs(name=name, commands=verbs, help=entry.about, no_args_is_help=True, rich_markup_mode=None)
    module, _, function = entry.place.partition(":")
    app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
    app.command(name)(getattr(import_module(f"{__package__}.{module}"), function or module))
    return get_command(app)


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
    command("ropewalk", VERBS)(args=[*verb, *sys.argv[1:]], prog_name="ropewalk")
