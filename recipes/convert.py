"""The verb `convert`: a training checkpoint becomes a Hugging Face folder, verified."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from ropewalk.recipes.language.errors import RecipeError
from ropewalk.recipes.options import Json, screen

DTYPES = ("float32", "bfloat16")


def convert(
    src: Annotated[
        Path, typer.Argument(metavar="SRC", help="A checkpoint, or a run directory: its newest one.")
    ],
    dst: Annotated[Path, typer.Argument(metavar="DST", help="The Hugging Face folder to write.")],
    dtype: Annotated[
        str | None, typer.Option(help="float32 or bfloat16; the checkpoint's own if left out.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Write a checkpoint as a folder that plain transformers loads, and check that it computes the same."""
    from ropewalk.train.convert.huggingface import convert as convert_checkpoint

    if dtype not in (None, *DTYPES):
        raise RecipeError(
            f"--dtype: must be one of {', '.join(DTYPES)}, got {dtype}; leave it out to keep the own"
        )
    told = asdict(convert_checkpoint(src, dst, dtype=dtype))
    if as_json:
        print(json.dumps(told, indent=2))
        return
    console = screen()
    console.print(f"{dst}: {'verified' if told['verified'] else 'NOT verified'}", markup=False)
    for name, value in told["checks"].items():
        console.print(f"  {name}: {value}", markup=False)
    console.print(f"  largest logit difference: {told['max_logit_difference']:.2e}")


if __name__ == "__main__":
    from ropewalk.recipes.cli import main

    main("convert")
