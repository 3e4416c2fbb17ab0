"""Where does a stage's prepared data lie, and is it there?"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from ...data import Plan as Packs
from ...data import find_plan, open_plan, read_manifest, restamped
from ...data.spec import reading_of
from ..language.errors import RecipeError
from ..language.schema import Recipe
from ..options import rank
from ..show.console import screen
from ..show.data import seen_lines
from .plan import Plan


def store_folder(stage: Recipe) -> Path:
    """Name the store of a stage: one tokenised corpus and the plans on it, shared by the stages of a run."""
    return Path(stage.data.store or Path(stage.run_dir) / "data")


def stage_tokens(stage: Recipe) -> int:
    """Count the tokens a stage reads."""
    return stage.train.steps * stage.train.batch_tokens


def packs_asked(stage: Recipe, held: int) -> dict[str, int]:
    """Count the packs that a stage asks for of those a plan holds, and the steps that would read all."""
    a_step = max(1, stage.train.batch_tokens // stage.pack_length)  # less than one is refused before training
    asked = stage.train.steps * a_step
    return {
        "asked_packs": asked,
        "held_packs": held,
        "packs": min(asked, held),
        "all_steps": -(-held // a_step),
    }


def seen(plan: Packs, stage: Recipe) -> dict[str, int]:
    """Count what of a plan a stage sees."""
    asked = packs_asked(stage, len(plan))
    return asked | plan.first(asked["packs"])


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
    tell_seen(plan)
    if rank() == 0:
        _tell_restamped(plan, folders)
    return folders


def _tell_restamped(plan: Plan, folders: Sequence[Path]) -> None:
    """Say which prepared files may not be what was written, since their times are others."""
    corpora = {folder.parent.parent / "corpus" for folder in folders}
    for folder, kind in [
        *((corpus, "corpus") for corpus in corpora),
        *((folder, "plan") for folder in folders),
    ]:
        manifest = read_manifest(folder, kind)
        if names := restamped(folder, manifest):
            command = shlex.join(["ropewalk", "prepare", plan.recipe, *plan.overrides, "--check"])
            screen().print(
                f"warning: {folder}: {len(names)} of {len(manifest['files'])} files have other times than "
                f"they were written at ({names[0]}): copied, or changed? This hashes them: {command}",
                markup=False,
                soft_wrap=True,
            )


def tell_seen(plan: Plan) -> None:
    """Say of each stage whose data are prepared what of them it does not see."""
    for stage in plan.stages:
        if (store_folder(stage) / "corpus").is_dir() and (folder := plan_folder(stage)).is_dir():
            packs = open_plan(folder)
            for line in seen_lines(seen(packs, stage), held=packs.manifest["report"]["tokens"]):
                screen().print(line, markup=False, soft_wrap=True)


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
