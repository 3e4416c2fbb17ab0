"""The verb `prepare`: tokenise, mix and pack the data of every stage, off the GPU job."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ropewalk.recipes.language.errors import RecipeError
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
    from ropewalk.recipes.language.schema import Recipe

Workers = Annotated[int | None, typer.Option(min=1, help="Processes that tokenise [one a core].")]
Tasks = Annotated[
    str | None, typer.Option(metavar="I/N", help="Tokenise only this share of the text, on any machine.")
]
Merge = Annotated[bool, typer.Option("--merge", help="Bring together what all tasks have done, then mix.")]
Check = Annotated[bool, typer.Option("--check", help="Hash every prepared file again.")]
Draw = Annotated[
    Path | None, typer.Option(metavar="FILE.png", help="With --dry-run: draw the mix and its distances.")
]
Peek = Annotated[int | None, typer.Option(min=1, metavar="N", help="Print the first packs of each stage.")]


def prepare(
    recipe: RecipeName,
    overrides: Overrides = None,
    dry_run: DryRun = False,
    world: World = None,
    workers: Workers = None,
    tasks: Tasks = None,
    merge: Merge = False,
    check: Check = False,
    peek: Peek = None,
    draw: Draw = None,
    as_json: Json = False,
) -> None:
    """Prepare a recipe's data, reusing what is there; print what was asked, got and left out."""
    from ropewalk.recipes.jobs.comparison.recipe import stages_to_prepare
    from ropewalk.recipes.jobs.comparison.show import show_any_plan

    _refuse_several(
        {"--dry-run": dry_run, "--tasks": tasks, "--merge": merge, "--check": check, "--peek": peek}
    )
    _refuse_picture(draw, dry_run)
    if workers and (check or peek):
        raise RecipeError(f"--workers: must come where text is tokenised, got {workers}; leave it out")
    processes = workers or os.cpu_count() or 1
    if dry_run:
        show_any_plan(recipe, overrides or [], world, screen(quiet=as_json))
        _show_previews(recipe, stages_to_prepare(recipe, overrides or []), processes, draw, as_json)
        return
    refuse_world_without_dry_run(world)
    stages = stages_to_prepare(recipe, overrides or [])
    if tasks is not None:
        _show_tasks([_do_task(stage, tasks, processes) for stage in _by_store(stages)], as_json)
    elif check:
        _show_check(sum(_check(stage) for stage in _by_store(stages)), as_json)
    elif peek:
        _show_packs([pack for stage in stages for pack in _packs(stage, peek)], as_json)
    else:
        if merge:
            for stage in _by_store(stages):
                _merge(stage)
        _show_reports(recipe, [_prepare_stage(stage, processes) for stage in stages], as_json)


def _refuse_several(options: dict[str, Any]) -> None:
    """Refuse options that ask for different things."""
    given = [name for name, value in options.items() if value is not None and value is not False]
    if len(given) > 1:
        raise RecipeError(f"prepare: must do one thing at a time, got {' and '.join(given)}; leave out one")


def _refuse_picture(draw: Path | None, dry_run: bool) -> None:
    """Refuse a picture that there will not be, before anything is read."""
    if draw and not dry_run:
        raise RecipeError(f"--draw: must come with --dry-run, got {draw} alone; add --dry-run")
    if draw and (draw.suffix != ".png" or not draw.parent.is_dir()):
        raise RecipeError(
            f"--draw: must be a .png file in a folder that exists, got {draw}; write {draw.stem}.png"
        )


def _by_store(stages: list[Recipe]) -> list[Recipe]:
    """Give one stage a store: stages that share one share its corpus."""
    from ropewalk.recipes.jobs.stores import store_folder

    return list({store_folder(stage): stage for stage in reversed(stages)}.values())


def _prepare_stage(stage: Recipe, workers: int) -> dict[str, Any]:
    from ropewalk.data import prepare as prepare_data
    from ropewalk.recipes.jobs.stores import stage_tokens, store_folder
    from ropewalk.recipes.show.progress import phases

    with phases(screen(stderr=True)) as progress:
        report = prepare_data(
            stage.data,
            tokenizer_path=stage.model.tokenizer_folder,
            length=stage.pack_length,
            reach=stage.target_length,
            folder=store_folder(stage),
            tokens=stage_tokens(stage),
            workers=workers,
            progress=progress,
        )
    return report.json()


def _do_task(stage: Recipe, task: str, workers: int) -> dict[str, Any]:
    from ropewalk.data import Task, prepare_task
    from ropewalk.recipes.jobs.stores import store_folder
    from ropewalk.recipes.show.progress import phases

    with phases(screen(stderr=True)) as progress:
        return prepare_task(
            stage.data,
            tokenizer_path=stage.model.tokenizer_folder,
            folder=store_folder(stage),
            task=Task.parse(task),
            workers=workers,
            progress=progress,
        )


def _merge(stage: Recipe) -> None:
    from ropewalk.data import merge_tasks
    from ropewalk.recipes.jobs.stores import store_folder

    merge_tasks(stage.data, tokenizer_path=stage.model.tokenizer_folder, folder=store_folder(stage))


def _check(stage: Recipe) -> int:
    from ropewalk.data import check_store
    from ropewalk.recipes.jobs.stores import store_folder
    from ropewalk.recipes.show.progress import phases

    with phases(screen(stderr=True)) as progress:
        return check_store(store_folder(stage), progress)


def _packs(stage: Recipe, count: int) -> list[dict[str, Any]]:
    from ropewalk.data import load_encoder, open_plan, peek
    from ropewalk.recipes.jobs.stores import plan_folder

    plan, tokenizer = open_plan(plan_folder(stage)), stage.model.tokenizer_folder
    engine = "tokenizers" if (tokenizer / "tokenizer.json").exists() else "auto"  # decoding needs no proof
    encoder = load_encoder(tokenizer, opens=stage.data.opens, closes=stage.data.closes, engine=engine)
    return peek(plan, encoder, range(min(count, len(plan))))


def _show_previews(recipe: str, stages: list[Recipe], workers: int, draw: Path | None, as_json: bool) -> None:
    from ropewalk.recipes.show.data import print_preview
    from ropewalk.recipes.show.preview import draw_stages, preview_stages

    told = preview_stages(stages, workers)
    if draw:
        draw_stages(told, stages, draw, title=recipe)
    if as_json:
        print(json.dumps({**told[-1], "stages": told}, indent=2))
        return
    for index, report in enumerate(told):
        title = f"{recipe}, stage {index}" if len(told) > 1 else recipe
        if "missing" in report:
            screen().print(f"\n{title}: no preview of the data: {report['missing']}", markup=False)
        else:
            print_preview(report, screen(), title=title)


def _show_reports(recipe: str, reports: list[dict[str, Any]], as_json: bool) -> None:
    from ropewalk.recipes.show.data import print_report

    if as_json:
        print(json.dumps({**reports[-1], "stages": reports}, indent=2))
        return
    for index, report in enumerate(reports):
        title = f"{recipe}, stage {index}" if len(reports) > 1 else recipe
        print_report(report, screen(), title=title)


def _show_tasks(told: list[dict[str, Any]], as_json: bool) -> None:
    if as_json:
        print(json.dumps({**told[-1], "stores": told}, indent=2))
        return
    for done in told:
        state = f"{done['units']} of {done['of']} units are done" if done["of"] else "merged already"
        screen().print(
            f"task {done['task']} with {done['engine']}: {state} in {done['folder']}", markup=False
        )


def _show_check(files: int, as_json: bool) -> None:
    told = {"files": files, "whole": True}
    if as_json:
        print(json.dumps(told))
    else:
        screen().print(f"{files:,} files are what they were when written", markup=False)


def _show_packs(told: list[dict[str, Any]], as_json: bool) -> None:
    from ropewalk.recipes.show.data import print_packs

    if as_json:
        print(json.dumps(told, indent=2))
    else:
        print_packs(told, screen())


if __name__ == "__main__":
    from ropewalk.recipes.cli import main

    main("prepare")
