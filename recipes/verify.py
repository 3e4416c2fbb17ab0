"""The verb `verify`: what every reader computes from a folder, and what is wrong with it."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ropewalk.recipes.options import Json, screen

if TYPE_CHECKING:
    from rich.console import Console

    from ropewalk.rope.engines import FolderReport


def verify(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="A Hugging Face folder, ours or not.")],
    engine: Annotated[
        str | None,
        typer.Option(help="transformers, vllm, sglang or llama.cpp: this one must compute what was trained."),
    ] = None,
    target_length: Annotated[
        int | None, typer.Option(min=1, help="Window you mean to serve, tokens; the trained one if left out.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Show what each engine will compute from a folder, and what is wrong with it; loads no weights."""
    from ropewalk.rope.engines import verify_folder

    report = verify_folder(model, engines=(engine,) if engine else (), target_length=target_length)
    if as_json:
        print(json.dumps(as_values(report), indent=2))
    else:
        print_report(report)
    if not report.verified:
        raise typer.Exit(1)


def as_values(report: "FolderReport") -> dict[str, Any]:
    """Give the report as JSON values; logits are `convert`'s to compare."""
    return {
        "verified": report.verified,
        "checks": report.checks(),
        "max_logit_difference": None,
        "trained": trained_values(report),
        "readers": [row.facts() for row in report.rows],
        "faults": list(report.faults),
    }


def trained_values(report: "FolderReport") -> dict[str, Any] | None:
    """Give what the weights were trained with."""
    if (trained := report.trained) is None:
        return None
    base = next(iter(trained.bases.values()))
    return {
        "told_by": trained.told_by,
        "scheme": trained.scheme.name,
        "knobs": trained.scheme.knobs,
        "theta": base.theta,
        "original_length": base.original_length,
        "trained_length": trained.target_length,
    }


def print_report(report: "FolderReport") -> None:
    """Print what was trained, a row a reader, what differs, and the faults."""
    console = screen()
    print_trained(report, console)
    print_readers(report, console)
    for row in report.rows:
        told = any(fault.startswith(f"{row.reader.name}:") for fault in report.faults)
        if (row.why and not told) or row.flags:
            start = " start it with " + " ".join(row.flags) if row.flags else ""
            said = ";".join(filter(None, (f" {row.why}" if row.why else "", start)))
            console.print(f"{row.reader.name}:{said}", markup=False)
    for fault in report.faults:
        console.print(f"FAULT {fault}", markup=False)
    console.print(f"{report.folder}: {'verified' if report.verified else 'NOT verified'}", markup=False)


def print_trained(report: "FolderReport", console: "Console") -> None:
    """Print the line that all readings are compared with."""
    told: Mapping[str, Any] | None = trained_values(report)
    if told is None:
        console.print("trained with: not known, the config does not say it without contradiction")
        return
    console.print(
        f"trained with: {told['scheme']}, theta {told['theta']:,.10g}, original length "
        f"{told['original_length']:,}, up to {told['trained_length']:,} tokens (says {told['told_by']})",
        markup=False,
    )


def print_readers(report: "FolderReport", console: "Console") -> None:
    """Print a row a reader and layer type."""
    from rich.table import Table
    from rich.text import Text

    types = {row.layer_type for row in report.rows}
    shorter = report.trained is not None and report.target_length != report.trained.target_length
    columns = {name: column for name, column in COLUMNS.items() if shorter or name != "angle_error_at_target"}
    heads = ("reader", "", *(head for head, _ in columns.values()), "")
    table = Table(*heads, box=None, pad_edge=False)
    for row in report.rows:
        facts = row.facts()
        layers = f" {row.layer_type}" if len(types) > 1 else ""
        cells = (
            row.reader.name + layers,
            row.reader.how,
            *(shown(facts[name], form) for name, (_, form) in columns.items()),
            row.verdict,
        )
        table.add_row(*(Text(cell) for cell in cells))
    console.print(table)


COLUMNS = {
    "theta": ("theta", ",.10g"),
    "kind": ("kind", ""),
    "factor": ("factor", ".6g"),
    "attention_scale": ("scale", ".5g"),
    "window": ("window", ","),
    "angle_error_at_trained": ("angle error", ".1e"),
    "angle_error_at_target": ("at target", ".1e"),
}
"what is shown of a row, its head and its format"


def shown(value: Any, form: str) -> str:
    return "-" if value is None else format(value, form)


if __name__ == "__main__":
    from ropewalk.recipes.cli import main

    main("verify")
