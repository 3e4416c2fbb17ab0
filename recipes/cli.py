"""The command `ropewalk`: which verbs are there, and how does an error for people end?

A verb's module is imported when the verb is called, from the name that stands here: the command starts at
once, and the verbs, whose own scripts call `main`, are not imported by what they import.
"""

from __future__ import annotations

import ast
import os
import sys
import warnings
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import typer
from typer.core import TyperGroup
from typer.main import get_command

from .. import __version__
from .options import rank

PACKAGE = __name__.partition(".")[0]


class Group(NamedTuple):
    """Verbs that share their first word, each by its place among the recipes, `module:function`."""

    about: str
    verbs: Mapping[str, str | Group]


VERBS = Group(
    "Give a pretrained language model a longer window, and measure what that gained and cost. "
    "`ropewalk --version` says which ropewalk this is.",
    {
        "extend": "extend:extend",
        "compare": "compare:compare",
        "evaluate": "evaluate:evaluate",
        "prepare": "prepare:prepare",
        "convert": "convert:convert",
        "verify": "verify:verify",
        "rope": Group(
            "List RoPE schemes, show what they compute, search one.",
            {"list": "rope:list_schemes", "show": "rope:show", "search": "search:search"},
        ),
        "recipes": Group(
            "List, show, check and compare recipes; begin one of your own.",
            {
                "new": "new:new",
                "list": "recipes:list_recipes",
                "show": "recipes:show",
                "check": "check:check",
                "diff": "check:diff",
            },
        ),
    },
)


class Verbs(TyperGroup):
    """Import a verb when it is called; say what a person must change without a traceback, on rank 0 alone."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Answer `--version` too: typer has no option of that kind, and its click is its own."""
        if args[:1] == ["--version"] and ctx.parent is None:
            typer.echo(f"{PACKAGE} {__version__}")
            raise typer.Exit
        return super().parse_args(ctx, args)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        entry: Any = self.commands.get(cmd_name)
        return entry and command(cmd_name, entry)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        entries: Any = self.commands.items()
        with formatter.section("Commands"):
            formatter.write_dl([(name, about(entry)) for name, entry in entries])

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except ValueError as error:
            if not is_for_people(error):
                raise
            told = str(error)
        except OSError as error:
            if error.filename is None:
                raise
            told = (
                f"{error.filename}: must be there to be used, got {error.strerror}; check it and your rights"
            )
        if rank() == 0:
            typer.echo(told, err=True)
        raise typer.Exit(2)


def command(name: str, entry: str | Group) -> Any:
    """Make what runs a verb, or a group of them.

    Help and errors are plain text: Rich would need 0.1 s for frames, and takes `[8]` in a text for markup.
    """
    if isinstance(entry, Group):
        verbs: Any = dict(entry.verbs)
        return Verbs(name=name, commands=verbs, help=entry.about, no_args_is_help=True, rich_markup_mode=None)
    module, function = entry.split(":")
    app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
    app.command(name)(getattr(import_module(f"{__package__}.{module}"), function))
    return get_command(app)


def about(entry: str | Group) -> str:
    """Say in a line what a verb does; its source is read for that, and not imported."""
    if isinstance(entry, Group):
        return entry.about
    module, name = entry.split(":")
    source = ast.parse(Path(__file__).with_name(f"{module}.py").read_text(encoding="utf-8"))
    [function] = [node for node in source.body if isinstance(node, ast.FunctionDef) and node.name == name]
    return (ast.get_docstring(function) or "").partition("\n")[0]


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
