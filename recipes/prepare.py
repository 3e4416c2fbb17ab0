"""The verb `prepare`: tokenise, mix and pack the data of every stage, off the GPU job."""

import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from ropewalk.data import Task
from ropewalk.recipes.cli import main
from ropewalk.recipes.jobs import preparation
from ropewalk.recipes.jobs.comparison.plan import plan_of
from ropewalk.recipes.jobs.plan import refuse_world
from ropewalk.recipes.language.check import model_facts
from ropewalk.recipes.language.errors import RecipeError
from ropewalk.recipes.language.schema import Recipe
from ropewalk.recipes.options import DryRun, Json, Overrides, RecipeName, World, on_demand, place, png_file
from ropewalk.recipes.show import data as show
from ropewalk.recipes.show.console import screen, tell
from ropewalk.rope import FULL

Workers = Annotated[int | None, typer.Option(min=1, help="Processes that tokenise [one a core].")]
Tasks = Annotated[
    str | None, typer.Option(metavar="I/N", help="Tokenise only this share of the text, on any machine.")
]
Merge = Annotated[bool, typer.Option("--merge", help="Bring together what all tasks have done, then mix.")]
Check = Annotated[bool, typer.Option("--check", help="Hash every prepared file again.")]
Draw = Annotated[
    Path | None,
    typer.Option(metavar="FILE.png", parser=place, help="With --dry-run: draw the mix and its distances."),
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
    """Prepare a recipe's data; print what was asked, got and left out.

    What is there already is used again.
    """
    _refuse_several(
        {"--dry-run": dry_run, "--tasks": tasks, "--merge": merge, "--check": check, "--peek": peek}
    )
    if draw and not dry_run:
        raise RecipeError(f"--draw: must come with --dry-run, got {draw} alone; add --dry-run")
    picture = png_file(draw) if draw else None
    if workers and (check or peek):
        raise RecipeError(f"--workers: must come where text is tokenised, got {workers}; leave it out")
    plan = plan_of(recipe, overrides or [])
    if dry_run:
        plan.show(world, screen(quiet=as_json), lacking=plan.missing())
    else:
        refuse_world(world)
    if not (dry_run or check or peek):
        plan.check_data()
    processes, stages = workers or os.cpu_count() or 1, plan.stages
    stores = preparation.by_store(stages)
    if dry_run:
        previews = preparation.preview_stages(stages, processes, plan.measured)
        if picture:
            draw_previews(previews, stages, picture, title=recipe)
        values = {**previews[-1], "stages": previews}
        tell(values, partial(show.print_previews, title=recipe), as_json=as_json)
    elif tasks is not None:
        done = [preparation.do_task(stage, Task.parse(tasks), processes) for stage in stores]
        tell({**done[-1], "stores": done}, show.print_tasks, as_json=as_json)
    elif check:
        files = sum(map(preparation.check, stores))
        tell({"files": files, "whole": True}, show.print_check, as_json=as_json)
    elif peek:
        packs = [pack for stage in stages for pack in preparation.first_packs(stage, peek)]
        tell(packs, show.print_packs, as_json=as_json)
    else:
        for stage in stores if merge else []:
            preparation.merge(stage)
        reports = [
            preparation.prepare_stage(stage, processes, lambda: plan.refuse(plan.held_out_problems()))
            for stage in stages
        ]
        values = {**reports[-1], "stages": reports}
        tell(values, partial(show.print_reports, title=recipe), as_json=as_json)
        plan.check_data()


def draw_previews(
    previews: Sequence[dict[str, Any]], stages: Sequence[Recipe], file: Path, *, title: str
) -> None:
    """Draw each stage that has a preview; several are numbered."""
    draw_mix = on_demand("recipes.show.figures").draw_mix
    for index, (preview, stage) in enumerate(zip(previews, stages, strict=True)):
        if "missing" not in preview:
            alone, trained = len(stages) == 1, None
            if not stage.model.from_scratch:
                trained = model_facts(stage).bases[FULL].trained_length
            target = file if alone else file.with_stem(f"{file.stem}-{index}")
            name = title if alone else f"{title}, stage {index}"
            target.write_bytes(draw_mix(preview, title=name, trained_length=trained))


def _refuse_several(options: dict[str, Any]) -> None:
    """Refuse options that ask for different things."""
    given = [name for name, value in options.items() if value is not None and value is not False]
    if len(given) > 1:
        raise RecipeError(f"prepare: must do one thing at a time, got {' and '.join(given)}; leave out one")


if __name__ == "__main__":
    main("prepare")
