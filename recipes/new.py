"""The verb `recipes new`: a recipe of your own to begin with."""

from typing import Annotated

import typer

from ropewalk.recipes.cli import main
from ropewalk.recipes.jobs.own.beginning import Asked
from ropewalk.recipes.jobs.own.recipe import own_recipe


def new(
    model: Annotated[str, typer.Option(metavar="FOLDER", help="The Hugging Face folder of the model.")],
    to: Annotated[int, typer.Option(min=2, help="Window to reach, tokens.")],
    gpus: Annotated[int, typer.Option(min=1, max=65536, help="GPUs of the run, up to eight a machine.")] = 8,
    text: Annotated[
        str | None,
        typer.Option(metavar="FOLDER", help="Your text; its kind is found. A placeholder if left out."),
    ] = None,
    text_field: Annotated[
        str | None, typer.Option(metavar="NAME", help="Field or column that holds the text [text].")
    ] = None,
    original_length: Annotated[
        int | None, typer.Option(min=1, help="Window of the unscaled frequencies, where no config says it.")
    ] = None,
    trained_length: Annotated[
        int | None,
        typer.Option(min=1, help="Window the weights were trained at, where the config claims more."),
    ] = None,
) -> None:
    """Write a recipe of your own for a model and a window, with reasons.

    It is checked before it is printed: ropewalk recipes new --model FOLDER --to 131072 > mine.yaml
    """
    if text is not None:
        typer.echo(f"reading a sample of {text}", err=True)
    asked = Asked(
        model=model,
        target_length=to,
        gpus=gpus,
        text=text,
        field=text_field,
        original_length=original_length,
        trained_length=trained_length,
    )
    recipe, lacks = own_recipe(asked)
    print(recipe, end="")
    for line in lacks:
        typer.echo(line, err=True)


if __name__ == "__main__":
    main("recipes", "new")
