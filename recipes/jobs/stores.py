"""Where does a stage's prepared data lie, and is it there?"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ...data import find_plan, read_manifest
from ...data.spec import reading_of
from ..language.errors import RecipeError

if TYPE_CHECKING:
    from ..language.schema import Recipe


def store_folder(stage: Recipe) -> Path:
    """Name the store of a stage: one tokenised corpus and the plans on it, shared by the stages of a run."""
    return Path(stage.data.store or Path(stage.run_dir) / "data")


def stage_tokens(stage: Recipe) -> int:
    """Count the tokens a stage reads."""
    return stage.train.steps * stage.train.batch_tokens


def plan_folder(stage: Recipe) -> Path:
    """Name the plan of a stage; a DataError where its store holds no corpus."""
    length, reach = stage.pack_length, stage.target_length
    folder, tokens = store_folder(stage), stage_tokens(stage)
    return find_plan(stage.data, length=length, reach=reach, folder=folder, tokens=tokens)


def require_prepared(stages: Sequence[Recipe], *, recipe: str, overrides: Sequence[str]) -> list[Path]:
    """Give the plans of the stages, or stop with the command that prepares them."""
    for stage in stages:
        require_corpus(stage, recipe=recipe, overrides=overrides)
    plans = [plan_folder(stage) for stage in stages]
    for index, plan in enumerate(plans):
        if not plan.is_dir():
            raise _unprepared(f"stage {index} has no plan {plan}", recipe, overrides)
    return plans


def require_corpus(stage: Recipe, *, recipe: str, overrides: Sequence[str]) -> Path:
    """Give the store of a stage if its corpus is there and is the recipe's, or stop with the command."""
    store = store_folder(stage)
    if not (store / "corpus").is_dir():
        raise _unprepared(f"no corpus in {store}", recipe, overrides)
    kept = read_manifest(store / "corpus", "corpus")["sources"]
    for name, source in stage.data.read.items():
        asked = reading_of(source)
        for key, value in asked.items():
            if kept.get(name, {}).get(key) != value:
                lack = (
                    f"a corpus whose data.sources.{name}.{key} was {kept.get(name, {}).get(key)}, not {value}"
                )
                raise _unprepared(f"{lack}; delete {store} or name another data.store", recipe, overrides)
    return store


def _unprepared(lack: str, recipe: str, overrides: Sequence[str]) -> RecipeError:
    command = shlex.join(["ropewalk", "prepare", recipe, *overrides])
    return RecipeError(f"{recipe}: data: must be prepared, got {lack}; run: {command}")
