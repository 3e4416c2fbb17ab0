"""The verb `rope`: list the schemes, and show what one of them computes."""

from __future__ import annotations

import inspect
import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ropewalk.recipes.errors import RecipeError
from ropewalk.recipes.options import Json, screen

if TYPE_CHECKING:
    from ropewalk.rope import Base, Scheme

app = typer.Typer(help="List RoPE schemes and show their numbers.", no_args_is_help=True)


@app.command("list")
def list_schemes(as_json: Json = False) -> None:
    """List every scheme: its knobs, its paper, and whether a Hugging Face config can express it."""
    from rich.table import Table

    from ropewalk.rope import SCHEMES

    rows = [_describe(name, kind) for name, kind in sorted(SCHEMES.items())]
    if as_json:
        print(json.dumps(rows, indent=2))
        return
    table = Table("scheme", "in a HF config", "knobs", "source", box=None, pad_edge=False)
    for row in rows:
        knobs = ", ".join(f"{name}={value}" for name, value in row["knobs"].items())
        table.add_row(row["scheme"], row["transformers"], knobs, row["source"])
    screen().print(table)


@app.command()
def show(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A scheme, such as yarn.")],
    target_length: Annotated[int, typer.Option(min=1, help="Window to reach, tokens.")],
    knobs: Annotated[list[str] | None, typer.Argument(metavar="[KNOB=VALUE]...")] = None,
    head_dim: Annotated[int, typer.Option(min=2, help="Rotary dimensions of a head.")] = 128,
    theta: Annotated[float, typer.Option(help="RoPE base.")] = 500_000.0,
    original_length: Annotated[int, typer.Option(min=1, help="Window of the unscaled frequencies.")] = 8192,
    kv_heads: Annotated[
        int, typer.Option(min=1, help="For schemes with frequencies of their own a head.")
    ] = 8,
    length: Annotated[
        int | None, typer.Option(min=1, help="For schemes that depend on the sequence.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Show a scheme's inverse frequencies, stretch and attention scale for a model's numbers."""
    from ropewalk.rope import Base, make_scheme

    scheme = make_scheme(name, **_read_knobs(knobs or []))
    base = Base(
        head_dim=head_dim,
        rotary_dim=head_dim,
        theta=theta,
        original_length=original_length,
        trained_length=original_length,
        query_heads=kv_heads,
        kv_heads=kv_heads,
        current=make_scheme("default"),
    )
    told = _numbers(name, scheme, base, target_length, length)
    if as_json:
        print(json.dumps(told, indent=2))
    else:
        _print_numbers(told)


def _read_knobs(knobs: list[str]) -> dict[str, Any]:
    from ropewalk.recipes.yaml_text import parse_yaml

    read = {}
    for knob in knobs:
        name, sign, text = knob.partition("=")
        if not sign:
            raise RecipeError(f"{knob}: a knob must be name=value, got {knob!r}; write factor=8")
        read[name] = parse_yaml(text, where=knob)
    return read


def _numbers(name: str, scheme: Scheme, base: Base, target_length: int, length: int | None) -> dict[str, Any]:
    frequencies = scheme.frequencies(base, target_length=target_length, length=length)
    return {
        "scheme": name,
        "knobs": dict(scheme.knobs),
        "factor": scheme.knobs.get("factor") or target_length / base.original_length,
        "stretch": frequencies.stretch(base),
        "inv_freq": frequencies.inv_freq.tolist(),
        "attention_scale": frequencies.attention_scale,
        "fingerprint": frequencies.fingerprint,
        "engines": {"transformers": _in_transformers(scheme, base, target_length)},
    }


def _in_transformers(scheme: Scheme, base: Base, target_length: int) -> dict[str, Any]:
    from ropewalk.rope import NotExpressible

    try:
        return {"serves": True, "rope_parameters": scheme.to_hf(base, target_length=target_length)}
    except NotExpressible as error:
        return {"serves": False, "why": str(error)}


def _print_numbers(told: dict[str, Any]) -> None:
    from rich.table import Table

    knobs = "".join(f" {name}={value}" for name, value in told["knobs"].items())
    console = screen()
    console.print(
        f"{told['scheme']}{knobs}: factor {told['factor']:g}, stretch {told['stretch']:.4g}, "
        f"attention scale {told['attention_scale']:.4g}, fingerprint {told['fingerprint'][:12]}",
        markup=False,
    )
    rows = told["inv_freq"]
    table = Table(
        "pair", *(f"inv_freq of head {head}" if len(rows) > 1 else "inv_freq" for head in range(len(rows)))
    )
    for pair, values in enumerate(zip(*rows, strict=True)):
        table.add_row(str(pair), *(f"{value:.6e}" for value in values))
    console.print(table)


def _describe(name: str, kind: type[Scheme]) -> dict[str, Any]:
    """Tell a scheme's knobs with their defaults, its source, and how a Hugging Face config says it."""
    from ropewalk.rope import Base, NotExpressible, make_scheme

    scheme = kind()
    base = Base(
        head_dim=128, rotary_dim=128, theta=1e4, original_length=4096, trained_length=4096,
        query_heads=8, kv_heads=8, current=make_scheme("default"),
    )  # fmt: skip
    try:
        in_transformers = str(scheme.to_hf(base, target_length=8192)["rope_type"])
    except NotExpressible:
        in_transformers = "no"
    return {
        "scheme": name,
        "knobs": scheme.knobs,
        "transformers": in_transformers,
        "source": (inspect.getmodule(kind).__doc__ or "").partition("\n")[0],
    }


if __name__ == "__main__":
    from ropewalk.recipes.cli import main

    main("rope")
