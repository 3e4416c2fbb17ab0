"""What does `prepare --dry-run` tell of a stage whose text is here?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from .stores import stage_tokens

if TYPE_CHECKING:
    from ..train.recipe import Recipe


def preview_stage(stage: Recipe, workers: int) -> dict[str, Any]:
    """Preview a stage's data; where the text or the tokenizer is not here, only say so under `missing`."""
    from ..data import DataError, load_encoder, preview
    from ..data.sources import open_reader

    data = stage.data
    try:
        encoder = load_encoder(stage.model.tokenizer_folder, opens=data.opens, closes=data.closes)
        for name, source in data.read.items():
            open_reader(source, where=f"data.sources.{name}").inputs()
    except DataError as error:
        return {"missing": str(error)}
    spec = data.model_copy(update={"tokens": data.tokens or stage_tokens(stage)})
    return preview(spec, encoder, length=stage.pack_length, reach=stage.target_length, workers=workers)


def draw_stages(told: list[dict[str, Any]], stages: list[Recipe], file: Path, *, title: str) -> list[Path]:
    """Draw each stage that has a preview; several are numbered."""
    from .data_figures import draw

    drawn = []
    for index, (report, stage) in enumerate(zip(told, stages, strict=True)):
        if "missing" in report:
            continue
        own = file if len(stages) == 1 else file.with_stem(f"{file.stem}-{index}")
        name = title if len(stages) == 1 else f"{title}, stage {index}"
        own.parent.mkdir(parents=True, exist_ok=True)
        own.write_bytes(draw(report, title=name, trained_length=_trained_length(stage)))
        drawn.append(own)
    return drawn


def _trained_length(stage: Recipe) -> int | None:
    from ..rope import FULL
    from ..train.crosscheck import model_facts

    return None if stage.model.from_scratch else model_facts(stage).bases[FULL].trained_length
