"""What does `prepare` do for the stages of a recipe, and what does it tell of them beforehand?"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from typing import Any

from ...data import (
    DataError,
    Task,
    check_store,
    load_encoder,
    merge_tasks,
    open_plan,
    peek,
    prepare,
    prepare_task,
    preview,
    sampled,
)
from ...data.sampling import Sample
from ...data.sources import open_reader
from ...data.spec import reading_of
from ...eval.errors import EvalError
from ..language.files import missing_files
from ..language.schema import Recipe
from ..show.console import phases, screen
from .stores import packs_asked, plan_folder, seen, stage_tokens, store_folder


def by_store(stages: Sequence[Recipe]) -> list[Recipe]:
    """Give one stage a store: stages that share one share its corpus."""
    return list({store_folder(stage): stage for stage in reversed(stages)}.values())


def prepare_stage(stage: Recipe, workers: int, tokenised: Callable[[], None] | None = None) -> dict[str, Any]:
    """Tokenise, mix and pack the data of a stage; give the report of what was asked, got and left out.

    `tokenised` is called before the mix.
    """
    with phases(screen(stderr=True)) as progress:
        report = prepare(
            stage.data,
            tokenizer_path=stage.model.tokenizer_folder,
            length=stage.pack_length,
            reach=stage.target_length,
            folder=store_folder(stage),
            tokens=stage_tokens(stage),
            workers=workers,
            progress=progress,
            tokenised=tokenised,
        )
    return report.json() | {"seen": seen(open_plan(report.folder), stage)}


def do_task(stage: Recipe, task: Task, workers: int) -> dict[str, Any]:
    """Tokenise one share of a store's text; give what is done."""
    with phases(screen(stderr=True)) as progress:
        return prepare_task(
            stage.data,
            tokenizer_path=stage.model.tokenizer_folder,
            folder=store_folder(stage),
            task=task,
            workers=workers,
            progress=progress,
        )


def merge(stage: Recipe) -> None:
    """Bring together what all tasks have done."""
    merge_tasks(stage.data, tokenizer_path=stage.model.tokenizer_folder, folder=store_folder(stage))


def check(stage: Recipe) -> int:
    """Hash every file of a store again, and count them."""
    with phases(screen(stderr=True)) as progress:
        return check_store(store_folder(stage), progress)


def first_packs(stage: Recipe, count: int) -> list[dict[str, Any]]:
    """Give the first packs of a stage in words."""
    plan, tokenizer = open_plan(plan_folder(stage)), stage.model.tokenizer_folder
    engine = "tokenizers" if (tokenizer / "tokenizer.json").exists() else "auto"  # decoding needs no proof
    encoder = load_encoder(tokenizer, opens=stage.data.opens, closes=stage.data.closes, engine=engine)
    return peek(plan, encoder, range(min(count, len(plan))))


def preview_stages(stages: Sequence[Recipe], workers: int, measured: Recipe) -> list[dict[str, Any]]:
    """Preview each stage's data; where the text or the tokenizer is not here, only say so under `missing`.

    Stages that read the same share a sample. The last is told what the tasks of `measured` will not be
    given.
    """
    previews: list[dict[str, Any]] = []
    samples: dict[str, Sample] = {}
    with ExitStack() as held:
        for stage in stages:
            if missing := _missing(stage):
                previews.append({"missing": "\n".join(missing)})
                continue
            sample = _sample(stage, samples, held)
            spec = stage.data.model_copy(update={"tokens": stage.data.tokens or stage_tokens(stage)})
            length, reach = stage.pack_length, stage.target_length
            told = preview(spec, sample, length=length, reach=reach, workers=workers)
            few = list(_held_out_lacks(measured, sample)) if stage is stages[-1] else []
            previews.append(told | {"seen": _about_seen(told, stage), "warnings": few})
    return previews


def _held_out_lacks(measured: Recipe, sample: Sample) -> Iterator[str]:
    """Estimate which tasks will have too few held-out documents."""
    lengths = sample.held_out(measured.data.holdout).tolist()
    for name, task in measured.tasks.items():
        try:
            task.check_lengths(lengths)
        except EvalError as error:
            yield f"eval.tasks.{name}: {error}"


def _about_seen(told: dict[str, Any], stage: Recipe) -> dict[str, int]:
    """Estimate what of a plan a stage sees."""
    asked = packs_asked(stage, told["packs"])
    return asked | {"tokens": round(told["tokens"] * asked["packs"] / max(told["packs"], 1))}


def _missing(stage: Recipe) -> list[str]:
    """List what of the tokenizer and the text is not here."""
    missing = [problem for problem in missing_files(stage) if problem.startswith("model.tokenizer")]
    for name, source in stage.data.read.items():
        try:
            open_reader(source, where=f"data.sources.{name}").inputs()
        except DataError as error:
            missing.append(str(error))
    return missing


def _sample(stage: Recipe, samples: dict[str, Sample], held: ExitStack) -> Sample:
    """Read a sample of a stage's text, or take that of a stage that reads the same."""
    data, tokenizer = stage.data, stage.model.tokenizer_folder
    alike = data.model_dump(include={"mode", "opens", "closes", "holdout", "near_duplicates", "part_bytes"})
    read = {name: reading_of(source) for name, source in data.read.items()}
    key = json.dumps([str(tokenizer), alike, read])
    if key not in samples:
        encoder = load_encoder(tokenizer, opens=data.opens, closes=data.closes)
        samples[key] = held.enter_context(sampled(data, encoder))
    return samples[key]
