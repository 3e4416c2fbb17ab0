"""What do the verbs share: arguments, what they know of their ranks, and modules that wait for their use?"""

import os
from collections.abc import Iterable
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer

from .language.errors import RecipeError
from .language.yaml_text import parse_yaml

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
GpuMemory = Annotated[
    float | None, typer.Option("--gpu-memory", min=1, help="GiB of one GPU that the dry run plans for.")
]
HostMemory = Annotated[
    float | None, typer.Option("--host-memory", min=1, help="GiB of one host that the dry run plans for.")
]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]


def read_knobs(knobs: Iterable[str], *, where: str, example: str) -> dict[str, Any]:
    """Read `name=value` pairs of a scheme, each value as YAML."""
    pairs = [knob.partition("=") for knob in knobs]
    for name, sign, _ in pairs:
        if not sign:
            raise RecipeError(f"{where}: a knob must be name=value, got {name!r}; write {example}")
    return {name: parse_yaml(value, where=where) for name, _, value in pairs}


def place(text: str) -> Path:
    """Read a path; a shell leaves the `~` of `--model=~/m` to us."""
    return Path(os.path.expanduser(text))


def png_file(file: Path) -> Path:
    """Give the file that a picture is drawn into, before anything is read for it."""
    if file.suffix != ".png" or not file.parent.is_dir():
        raise RecipeError(
            f"--draw: must be a .png file in a folder that exists, got {file}; write {file.stem}.png"
        )
    return file


def rank() -> int:
    """Give this process's rank under torchrun, 0 alone."""
    return int(os.environ.get("RANK", "0"))


def world_size() -> int:
    """Count the processes torchrun started, 1 alone."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def on_demand(module: str) -> Any:
    """Import a module of the package, such as `recipes.jobs.extension`, where its work begins.

    torch, transformers and matplotlib take seconds, for which no plan, refusal or `--help` should wait. So a
    verb imports at its top what checks, plans and prints; what computes comes from here, and nowhere else.
    """
    return import_module(f"{__name__.partition('.')[0]}.{module}")
