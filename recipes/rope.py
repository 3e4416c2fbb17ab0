"""The verb `rope`: list the schemes, show what one of them computes, search one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ropewalk.recipes.language.errors import RecipeError
from ropewalk.recipes.options import Json, screen
from ropewalk.recipes.search import search

if TYPE_CHECKING:
    from ropewalk.rope import Base

app = typer.Typer(help="List RoPE schemes, show what they compute, search one.", no_args_is_help=True)

MADE_UP = {"head_dim": 128, "theta": 500_000.0, "original_length": 8192, "kv_heads": 8}
"the model that is shown where none is named: Llama 3 8B"


@app.command("list")
def list_schemes(as_json: Json = False) -> None:
    """List every scheme: its paper, its knobs, and which engine serves it."""
    from ropewalk.recipes.show.scheme import describe, print_schemes
    from ropewalk.rope import SCHEMES

    base = _base(None, {})
    described = [describe(name, base) for name in sorted(SCHEMES)]
    if as_json:
        print(json.dumps(described, indent=2))
    else:
        print_schemes(described, base, screen())


@app.command()
def show(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A scheme, such as yarn.")],
    target_length: Annotated[int, typer.Option(min=1, help="Window to reach, tokens.")],
    knobs: Annotated[list[str] | None, typer.Argument(metavar="[KNOB=VALUE]...")] = None,
    model: Annotated[
        Path | None, typer.Option(help="A model folder whose config.json gives the four numbers below.")
    ] = None,
    head_dim: Annotated[int | None, typer.Option(min=2, help="Rotary dimensions of a head [128].")] = None,
    theta: Annotated[float | None, typer.Option(help="RoPE base [500000].")] = None,
    original_length: Annotated[
        int | None, typer.Option(min=1, help="Window of the unscaled frequencies, tokens [8192].")
    ] = None,
    kv_heads: Annotated[
        int | None, typer.Option(min=1, help="For schemes with frequencies of their own a head [8].")
    ] = None,
    length: Annotated[
        int | None, typer.Option(min=1, help="For schemes that depend on the sequence, tokens.")
    ] = None,
    draw: Annotated[Path | None, typer.Option(metavar="FILE.png", help="Draw it into this file.")] = None,
    as_json: Json = False,
) -> None:
    """Show what a scheme does to a model's frequencies, pair by pair, and draw it."""
    from ropewalk.recipes.show.scheme import numbers, print_numbers
    from ropewalk.rope import make_scheme

    stated = {
        "head_dim": head_dim, "theta": theta, "original_length": original_length, "kv_heads": kv_heads,
    }  # fmt: skip
    base = _base(model, {key: value for key, value in stated.items() if value is not None})
    scheme = make_scheme(name, **_read_knobs(knobs or []))
    told = numbers(scheme, base, target_length=target_length, length=length)
    if draw is not None:
        _draw(draw, told)
    if as_json:
        print(json.dumps(told, indent=2))
    else:
        print_numbers(told, screen())


app.command()(search)


def _base(model: Path | None, stated: dict[str, Any]) -> Base:
    """Return the base of a model folder, or of the numbers stated."""
    from ropewalk.rope import Base, make_scheme

    if model is not None:
        return _read_model(model, stated)
    of = MADE_UP | stated
    return Base(
        head_dim=of["head_dim"],
        rotary_dim=of["head_dim"],
        theta=of["theta"],
        original_length=of["original_length"],
        trained_length=of["original_length"],
        query_heads=of["kv_heads"],
        kv_heads=of["kv_heads"],
        current=make_scheme("default"),
    )


def _read_model(model: Path, stated: dict[str, Any]) -> Base:
    """Return the base of the layers that see the whole sequence."""
    from ropewalk.rope import FULL, read_base

    original_length = stated.pop("original_length", None)
    if stated:
        options = ", ".join("--" + key.replace("_", "-") for key in stated)
        raise RecipeError(f"--model: must come without {options}, got {model}; the folder's config says them")
    config = model / "config.json"
    if not config.is_file():
        raise RecipeError(
            f"--model: must be a model folder with a config.json, got {model}; correct the path"
        )
    return read_base(json.loads(config.read_text()), original_length=original_length)[FULL]


def _read_knobs(knobs: list[str]) -> dict[str, Any]:
    from ropewalk.recipes.language.yaml_text import parse_yaml

    read = {}
    for knob in knobs:
        name, sign, text = knob.partition("=")
        if not sign:
            raise RecipeError(f"{knob}: a knob must be name=value, got {knob!r}; write factor=8")
        read[name] = parse_yaml(text, where=knob)
    return read


def _draw(file: Path, told: dict[str, Any]) -> None:
    if file.suffix != ".png" or not file.parent.is_dir():
        raise RecipeError(
            f"--draw: must be a .png file in a folder that exists, got {file}; write {file.stem}.png"
        )
    from ropewalk.recipes.show.figures import draw

    file.write_bytes(draw(told))


if __name__ == "__main__":
    from ropewalk.recipes.cli import main

    main("rope")
