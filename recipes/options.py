"""Which arguments do the verbs share, and what do they know of the ranks they run on?"""

import os
from typing import Annotated

import typer
from rich.console import Console

from .language.errors import RecipeError

RecipeName = Annotated[
    str, typer.Argument(metavar="RECIPE", help="A recipe file, or the name of a shipped recipe.")
]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="[KEY=VALUE]...", help="Keys laid over the recipe, such as train.steps=10."),
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Compose, check and print the plan; touch no device.")
]
World = Annotated[int | None, typer.Option("--world", min=1, help="Number of ranks the dry run plans for.")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]


def rank() -> int:
    """Give this process's rank under torchrun, 0 alone."""
    return int(os.environ.get("RANK", "0"))


def world_size() -> int:
    """Count the processes torchrun started, 1 alone."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def screen(*, stderr: bool = False, quiet: bool = False) -> Console:
    """Open the terminal on rank 0 and a mute one on the others; a file gets lines of 120 columns."""
    quiet = quiet or rank() != 0
    console = Console(quiet=quiet, highlight=False, stderr=stderr)
    return console if console.is_terminal else Console(quiet=quiet, highlight=False, stderr=stderr, width=120)


def refuse_world_without_dry_run(world: int | None) -> None:
    """Refuse `--world` where torchrun decides: a setting without effect is an error."""
    if world is not None:
        raise RecipeError(
            f"--world: must come with --dry-run, got {world} alone; torchrun --nproc-per-node sets it"
        )
