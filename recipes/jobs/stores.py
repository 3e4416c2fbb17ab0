"""Where does a stage's prepared data lie, and is it there?"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from ...data import (
    DataError,
    beyond,
    find_plan,
    open_documents,
    open_plan,
    read_manifest,
    restamped,
)
from ...data import Plan as Packs
from ...data.spec import missing_paths, reading_of
from ...eval.errors import EvalError
from ...eval.task import check_tasks
from ...train.schedule import unlabelled_problem, unlabelled_steps
from ...train.storage import place_problems
from ..language.check import model_facts
from ..language.errors import RecipeError
from ..language.schema import Recipe
from ..options import on_demand, rank
from ..show.console import screen
from ..show.data import seen_lines

LEAST_DISTANT_PAIRS = 0.01
"""Share of query-key pairs beyond the trained length below which a plan hardly trains the longer window."""


class Asked(Protocol):
    """A recipe as a person named it, and its stages."""

    @property
    def recipe(self) -> str: ...
    @property
    def overrides(self) -> Sequence[str]: ...
    @property
    def stages(self) -> list[Recipe]: ...


def store_folder(stage: Recipe) -> Path:
    """Name the store of a stage: one tokenised corpus and the plans on it, shared by the stages of a run."""
    return Path(stage.run_dir) / "data" if stage.data.store is None else Path(stage.data.store)


def stage_tokens(stage: Recipe) -> int:
    """Count the tokens a stage reads."""
    return stage.train.steps * stage.train.batch_tokens


def packs_asked(stage: Recipe, held: int) -> dict[str, int]:
    """Count the packs that a stage asks for of those a plan holds, and the steps it may have with as many."""
    a_step = max(1, stage.train.batch_tokens // stage.pack_length)  # less than one is refused before training
    asked = stage.train.steps * a_step
    return {
        "steps": stage.train.steps,
        "asked_packs": asked,
        "held_packs": held,
        "packs": min(asked, held),
        "most_steps": min(-(-held // a_step), (stage.data.tokens or 0) // stage.train.batch_tokens),
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


def require_prepared(plan: Asked) -> list[Path]:
    """Give the packed data of each stage, or stop with the command that prepares it."""
    folders = _folders(plan)
    tell_seen(plan)
    if rank() == 0:
        _tell_restamped(plan, folders)
    return folders


def _folders(plan: Asked) -> list[Path]:
    """Do so without a word, for a check, which asks more than once."""
    require_corpora(plan)
    folders = [plan_folder(stage) for stage in plan.stages]
    for index, folder in enumerate(folders):
        if not folder.is_dir():
            raise _unprepared(plan, f"stage {index} has no plan {folder}")
    return folders


def _tell_restamped(plan: Asked, folders: Sequence[Path]) -> None:
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


def tell_seen(plan: Asked) -> None:
    """Say of each stage whose data are prepared what of them it does not see."""
    for stage in plan.stages:
        if (store_folder(stage) / "corpus").is_dir() and (folder := plan_folder(stage)).is_dir():
            packs = open_plan(folder)
            for line in seen_lines(seen(packs, stage), held=packs.manifest["report"]["tokens"]):
                screen().print(line, markup=False, soft_wrap=True)


def require_corpora(plan: Asked) -> list[Path]:
    """Give the store of each stage, if its corpus is there and is the recipe's, or stop with the command."""
    return [_require_corpus(plan, stage) for stage in plan.stages]


def unprepared(plan: Asked, *, plans: bool = True) -> list[str]:
    """Say what is not prepared, and how it comes to be; without `plans` the corpus is enough."""
    try:
        (_folders if plans else require_corpora)(plan)
    except (RecipeError, DataError) as error:
        return [str(error).removeprefix(f"{plan.recipe}: ")]
    return []


def prepared(plan: Asked) -> list[Path]:
    """Give the packed data of each stage; none where any is lacking."""
    return [] if unprepared(plan) else _folders(plan)


def near_problems(stages: Sequence[Recipe], folders: Sequence[Path]) -> list[str]:
    """Find the plans that hardly train the longer window: short documents in masked groups never reach it."""
    lines = []
    for stage, folder in zip(stages, folders, strict=True):
        if stage.model.from_scratch or stage.train.accept_short_documents:
            continue
        trained = next(iter(model_facts(stage).bases.values())).trained_length
        share = beyond(open_plan(folder), trained)
        if share < LEAST_DISTANT_PAIRS:
            lines.append(
                f"data: at least {LEAST_DISTANT_PAIRS:.0%} of the plan's query-key pairs must lie further "
                f"apart than the trained length of {trained} tokens, got {share:.2%}; raise "
                "data.sources.*.long.share, or set train.accept_short_documents: true"
            )
    return lines


def label_problems(stages: Sequence[Recipe], folders: Sequence[Path]) -> list[str]:
    """Find the stages with a step in which no token has a label."""
    lines = []
    for index, (stage, folder) in enumerate(zip(stages, folders, strict=True)):
        packs = max(1, stage.train.batch_tokens // stage.pack_length)
        if empty := unlabelled_steps(open_plan(folder), stage.train.steps, packs):
            where = f"stages[{index}]." if len(stages) > 1 else ""
            lines.append(where + unlabelled_problem(empty, packs))
    return lines


def held_out_problems(stage: Recipe) -> list[str]:
    """Find what the held-out documents of a prepared store cannot give to the tasks."""
    documents = open_documents(store_folder(stage), split="heldout")

    def tokenizer() -> Any:
        return on_demand("recipes.jobs.evaluation").tokenizer_of(stage.model.tokenizer_folder)

    try:
        check_tasks(stage.tasks, tokenizer, documents, stage.train.seed)
    except EvalError as error:
        return str(error).splitlines()
    return []


def store_problems(stages: Sequence[Recipe]) -> list[str]:
    """Find stores that are to be made where nothing can be written; a bad `run_dir` is said by itself."""
    lines: list[str] = []
    for stage in stages:
        own, folder = stage.data.store, store_folder(stage)
        if not (folder / "corpus").is_dir() and (own is not None or not [*place_problems("", stage.run_dir)]):
            lines += place_problems("data.store", folder if own is None else own)
    return list(dict.fromkeys(lines))


def missing_text(stages: Sequence[Recipe]) -> list[str]:
    """List the paths of raw text that are not here, where no store holds its tokens yet."""
    new = [stage for stage in stages if not (store_folder(stage) / "corpus").is_dir()]
    return list(dict.fromkeys(line for stage in new for line in missing_paths(stage.data)))


def _require_corpus(plan: Asked, stage: Recipe) -> Path:
    store = store_folder(stage)
    if not (store / "corpus").is_dir():
        raise _unprepared(plan, f"no corpus in {store}")
    for key, was, asked in _settings(stage, read_manifest(store / "corpus", "corpus")):
        if was != asked:
            lack = f"a corpus whose {key} was {was}, not {asked}"
            raise _unprepared(plan, f"{lack}; delete {store} or name another data.store")
    return store


def _settings(stage: Recipe, corpus: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """Put what a corpus was made with beside what the recipe asks."""
    for key in ("holdout", "near_duplicates"):
        asked = getattr(stage.data, key)
        yield f"data.{key}", corpus["identity"].get(key, asked), asked
    for name, source in stage.data.read.items():
        kept = corpus["sources"].get(name, {})
        yield from ((f"data.sources.{name}.{key}", kept.get(key), v) for key, v in reading_of(source).items())


def _unprepared(plan: Asked, lack: str) -> RecipeError:
    command = shlex.join(["ropewalk", "prepare", plan.recipe, *plan.overrides])
    return RecipeError(f"{plan.recipe}: data: must be prepared, got {lack}; run: {command}")
