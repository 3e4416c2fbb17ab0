"""Where does a stage's prepared data lie, and is it there?"""

from __future__ import annotations

import shlex
from pathlib import Path

from ...data import find_plan, read_manifest
from ...data.spec import reading_of
from ..language.errors import RecipeError
from ..language.schema import Recipe
from .plan import Plan


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


def require_prepared(plan: Plan) -> list[Path]:
    """Give the packed data of each stage, or stop with the command that prepares it."""
    require_corpora(plan)
    folders = [plan_folder(stage) for stage in plan.stages]
    for index, folder in enumerate(folders):
        if not folder.is_dir():
            raise _unprepared(plan, f"stage {index} has no plan {folder}")
    return folders


def require_corpora(plan: Plan) -> list[Path]:
    """Give the store of each stage, if its corpus is there and is the recipe's, or stop with the command."""
    return [_require_corpus(plan, stage) for stage in plan.stages]


def _require_corpus(plan: Plan, stage: Recipe) -> Path:
    store = store_folder(stage)
    if not (store / "corpus").is_dir():
        raise _unprepared(plan, f"no corpus in {store}")
    kept = read_manifest(store / "corpus", "corpus")["sources"]
    for name, source in stage.data.read.items():
        for key, value in reading_of(source).items():
            if (was := kept.get(name, {}).get(key)) != value:
                lack = f"a corpus whose data.sources.{name}.{key} was {was}, not {value}"
                raise _unprepared(plan, f"{lack}; delete {store} or name another data.store")
    return store


def _unprepared(plan: Plan, lack: str) -> RecipeError:
    command = shlex.join(["ropewalk", "prepare", plan.recipe, *plan.overrides])
    return RecipeError(f"{plan.recipe}: data: must be prepared, got {lack}; run: {command}")
