"""What does `prepare --dry-run` tell of the stages whose text is here?"""

from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..jobs.stores import stage_tokens

if TYPE_CHECKING:
    from ...data.sampling import Sample
    from ..language.schema import Recipe


def preview_stages(stages: list[Recipe], workers: int) -> list[dict[str, Any]]:
    """Preview each stage's data; where the text or the tokenizer is not here, only say so under `missing`.

    Stages that read the same share a sample.
    """
    from ...data import preview

    told: list[dict[str, Any]] = []
    samples: dict[str, Sample] = {}
    with ExitStack() as held:
        for stage in stages:
            if missing := _missing(stage):
                told.append({"missing": "\n".join(missing)})
                continue
            sample = _sample(stage, samples, held)
            spec = stage.data.model_copy(update={"tokens": stage.data.tokens or stage_tokens(stage)})
            length, reach = stage.pack_length, stage.target_length
            told.append(preview(spec, sample, length=length, reach=reach, workers=workers))
    return told


def _missing(stage: Recipe) -> list[str]:
    """List what of the tokenizer and the text is not here."""
    from ...data import DataError
    from ...data.sources import open_reader
    from ..language.check import missing_files

    missing = [problem for problem in missing_files(stage) if problem.startswith("model.tokenizer")]
    for name, source in stage.data.read.items():
        try:
            open_reader(source, where=f"data.sources.{name}").inputs()
        except DataError as error:
            missing.append(str(error))
    return missing


def _sample(stage: Recipe, samples: dict[str, Sample], held: ExitStack) -> Sample:
    """Read a sample of a stage's text, or take that of a stage that reads the same."""
    from ...data import load_encoder, sampled
    from ...data.spec import reading_of

    data, tokenizer = stage.data, stage.model.tokenizer_folder
    own = data.model_dump(include={"mode", "opens", "closes", "holdout", "near_duplicates", "part_bytes"})
    read = {name: reading_of(source) for name, source in data.read.items()}
    key = json.dumps([str(tokenizer), own, read])
    if key not in samples:
        encoder = load_encoder(tokenizer, opens=data.opens, closes=data.closes, engine=data.engine)
        samples[key] = held.enter_context(sampled(data, encoder))
    return samples[key]


def draw_stages(told: list[dict[str, Any]], stages: list[Recipe], file: Path, *, title: str) -> list[Path]:
    """Draw each stage that has a preview; several are numbered."""
    from .data_figures import draw

    drawn = []
    for index, (report, stage) in enumerate(zip(told, stages, strict=True)):
        if "missing" in report:
            continue
        own = file if len(stages) == 1 else file.with_stem(f"{file.stem}-{index}")
        name = title if len(stages) == 1 else f"{title}, stage {index}"
        own.write_bytes(draw(report, title=name, trained_length=_trained_length(stage)))
        drawn.append(own)
    return drawn


def _trained_length(stage: Recipe) -> int | None:
    from ...rope import FULL
    from ..language.check import model_facts

    return None if stage.model.from_scratch else model_facts(stage).bases[FULL].trained_length
