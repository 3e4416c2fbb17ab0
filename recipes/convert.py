"""The verb `convert`: a training checkpoint becomes a Hugging Face folder, verified."""

from pathlib import Path
from typing import Annotated

import typer

from ropewalk.recipes.options import Json, screen


def convert(
    src: Annotated[Path, typer.Argument(metavar="SRC", help="A checkpoint folder of a run.")],
    dst: Annotated[Path, typer.Argument(metavar="DST", help="The Hugging Face folder to write.")],
    dtype: Annotated[
        str | None, typer.Option(help="Type of the written weights; the checkpoint's own if left out.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Write a checkpoint as a folder that plain transformers loads, and check that it computes the same."""
    from ropewalk.recipes.report_text import print_conversion
    from ropewalk.train import convert as convert_checkpoint

    print_conversion(convert_checkpoint(src, dst, dtype=dtype), dst, screen(), as_json=as_json)


if __name__ == "__main__":
    from ropewalk.recipes.cli import main

    main("convert")
