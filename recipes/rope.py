"""The verbs `rope list` and `rope show`: the schemes, and what one of them computes."""

from pathlib import Path
from typing import Annotated, Any

import typer

from ropewalk.recipes.cli import main
from ropewalk.recipes.language.errors import RecipeError
from ropewalk.recipes.options import Json, on_demand, place, png_file, read_knobs
from ropewalk.recipes.show.console import tell
from ropewalk.recipes.show.scheme import describe, numbers, print_numbers, print_schemes
from ropewalk.rope import FULL, SCHEMES, Base, make_scheme, read_base
from ropewalk.rope.folder import fetching, read_config

MADE_UP = {"head_dim": 128, "theta": 500_000.0, "original_length": 8192, "kv_heads": 8}
"the model that is shown where none is named: Llama 3 8B"


def list_schemes(as_json: Json = False) -> None:
    """List every scheme: its paper, its knobs, and which engine serves it."""
    base = _base(None, {})
    described = [describe(name, base) for name in sorted(SCHEMES)]
    tell(described, lambda _, console: print_schemes(described, base, console), as_json=as_json)


def show(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A scheme, such as yarn.")],
    target_length: Annotated[int, typer.Option(min=1, help="Window to reach, tokens.")],
    knobs: Annotated[list[str] | None, typer.Argument(metavar="[KNOB=VALUE]...")] = None,
    model: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            parser=place,
            help="A model whose config.json gives the four numbers below.",
        ),
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
    draw: Annotated[
        Path | None, typer.Option(metavar="FILE.png", parser=place, help="Draw it into this file.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Show what a scheme does to a model's frequencies, and draw it."""
    file = png_file(draw) if draw else None
    stated = {
        "head_dim": head_dim, "theta": theta, "original_length": original_length, "kv_heads": kv_heads,
    }  # fmt: skip
    base = _base(model, {key: value for key, value in stated.items() if value is not None})
    scheme = make_scheme(name, **read_knobs(knobs or [], where=name, example="factor=8"))
    scheme_numbers = numbers(scheme, base, target_length=target_length, length=length)
    if file is not None:
        file.write_bytes(on_demand("recipes.show.figures").draw_scheme(scheme_numbers))
    tell(scheme_numbers, print_numbers, as_json=as_json)


def _base(model: Path | None, stated: dict[str, Any]) -> Base:
    """Return the base of a model folder, or of the numbers stated."""
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
    original_length = stated.pop("original_length", None)
    if stated:
        options = ", ".join("--" + key.replace("_", "-") for key in stated)
        raise RecipeError(f"--model: must come without {options}, got {model}; the folder's config says them")
    config = model / "config.json"
    if not config.is_file():
        raise RecipeError(
            f"--model: must be a model folder with a config.json, got {model}; correct "
            f"the path{fetching(model)}"
        )
    return read_base(read_config(config), original_length=original_length)[FULL]


if __name__ == "__main__":
    main("rope")
