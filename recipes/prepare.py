"""The verb `prepare`: tokenise, mix and pack the data of every stage, off the GPU job."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from ropewalk.recipes.options import (
    DryRun,
    Json,
    Overrides,
    RecipeName,
    World,
    refuse_world_without_dry_run,
    screen,
)

if TYPE_CHECKING:
    from rich.console import Console

    from ropewalk.train.recipe import Recipe


def prepare(
    recipe: RecipeName,
    overrides: Overrides = None,
    dry_run: DryRun = False,
    world: World = None,
    as_json: Json = False,
) -> None:
    """Prepare a recipe's data, reusing what is there; print what was asked, got and left out."""
    from ropewalk.recipes.comparing.recipe import stages_to_prepare
    from ropewalk.recipes.comparing.show import show_any_plan

    if dry_run:
        show_any_plan(recipe, overrides or [], world, screen())
        return
    refuse_world_without_dry_run(world)
    reports = [_prepare_stage(stage) for stage in stages_to_prepare(recipe, overrides or [])]
    if as_json:
        print(json.dumps({**reports[-1], "stages": reports}, indent=2))
        return
    for index, report in enumerate(reports):
        title = f"{recipe}, stage {index}" if len(reports) > 1 else recipe
        print_report(report, screen(), title=title)


def _prepare_stage(stage: Recipe) -> dict[str, Any]:
    from ropewalk.data import prepare as prepare_data
    from ropewalk.recipes.progress import phases
    from ropewalk.recipes.stores import stage_tokens, store_folder

    with phases(screen(stderr=True)) as progress:
        report = prepare_data(
            stage.data,
            tokenizer_path=stage.model.tokenizer_folder,
            length=stage.target_length,
            folder=store_folder(stage),
            tokens=stage_tokens(stage),
            progress=progress,
        )
    return report.json()


def print_report(report: dict[str, Any], console: Console, *, title: str) -> None:
    """Print a stage's report as tables: sources, what was dropped and why, and the distances it trains."""
    from rich.table import Table

    console.print(
        f"\n{title}: {report['tokens']:,} tokens in {report['packs']:,} packs of {report['length']:,}, "
        f"{report['padding']:,} padding, {report['trained_tokens']:,} trained\n"
        f"corpus {report['corpus_fingerprint'][:12]}, plan {report['fingerprint'][:12]} "
        f"in {report['folder']}",
        markup=False,
    )
    sources = Table("source", "requested", "achieved", box=None, pad_edge=False)
    for name, told in report["sources"].items():
        sources.add_row(name, _amounts(told["requested"]), _amounts(told["achieved"]))
    console.print(sources)
    dropped = Table("dropped because", "how much", box=None, pad_edge=False)
    for reason, amount in report["dropped"].items():
        dropped.add_row(reason, _amounts(amount))
    console.print(dropped if report["dropped"] else "dropped nothing")
    distances = Table("distance, tokens", "tokens", "query-key pairs", "share", box=None, pad_edge=False)
    pairs = sum(octave["pairs"] for octave in report["coverage"]) or 1
    for octave in report["coverage"]:
        span = f"{octave['start']:,} to {octave['stop'] - 1:,}"
        share = f"{octave['pairs'] / pairs:.1%}"
        distances.add_row(span, f"{octave['tokens']:,}", f"{octave['pairs']:,}", share)
    console.print(distances)


def _amounts(told: Any) -> str:
    """Write counts with thousands and shares as percentages, whatever their names."""
    if isinstance(told, dict):
        return ", ".join(f"{_amounts(value)} {name}" for name, value in told.items() if value is not None)
    return f"{told:.1%}" if isinstance(told, float) else f"{told:,}" if isinstance(told, int) else str(told)


if __name__ == "__main__":
    from ropewalk.recipes.cli import main

    main("prepare")
