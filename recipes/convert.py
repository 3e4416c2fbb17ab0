"""The verb `convert`: a training checkpoint becomes a Hugging Face folder, verified."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from ropewalk.recipes.cli import main
from ropewalk.recipes.language.errors import RecipeError, raise_all
from ropewalk.recipes.options import Json, on_demand, place
from ropewalk.recipes.show.console import tell
from ropewalk.train.storage import place_problems

DTYPES = ("float32", "bfloat16")


def convert(
    src: Annotated[
        Path,
        typer.Argument(metavar="SRC", parser=place, help="A checkpoint, or a run directory: its newest one."),
    ],
    dst: Annotated[
        Path, typer.Argument(metavar="DST", parser=place, help="The Hugging Face folder to write.")
    ],
    dtype: Annotated[
        str | None, typer.Option(help="float32 or bfloat16; the checkpoint's own if left out.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Write a checkpoint as a folder for plain transformers, and verify it.

    It is checked to compute the same.
    """

    def show(report: dict[str, Any], console: Console) -> None:
        console.print(f"{dst}: {'verified' if report['verified'] else 'NOT verified'}", markup=False)
        for name, value in report["checks"].items():
            console.print(f"  {name}: {value}", markup=False)
        console.print(f"  largest logit difference: {report['max_logit_difference']:.2e}")

    if dtype not in (None, *DTYPES):
        raise RecipeError(
            f"--dtype: must be one of {', '.join(DTYPES)}, got {dtype}; leave it out to keep the own"
        )
    raise_all("convert", place_problems("DST", dst.parent))
    converted = on_demand("train.convert.huggingface").convert(src, dst, dtype=dtype)
    tell(asdict(converted), show, as_json=as_json)


if __name__ == "__main__":
    main("convert")
