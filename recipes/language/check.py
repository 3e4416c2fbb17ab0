"""Does a recipe hold together? The checks between its keys, the model and the world of ranks."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from ...data import DataError
from ...data.mixing.candidates import refuse_long_pieces
from ...rope import AttentionScheme, refusals
from ...rope.engines import text_problems, weight_problems
from ...rope.scheme import RopeError
from ...train.errors import shown
from ...train.layout import divisors
from ...train.settings import ModelSection
from .errors import RecipeError
from .facts import ModelFacts, model_config, model_facts
from .ranks import (
    chunk_problems,
    eval_layout_problems,
    head_problems,
    kernel_problems,
    layout_problems,
    memory_problems,
)
from .schema import Recipe, stages


def problems_of(recipe: Recipe, world: int) -> list[str]:
    """List what does not hold between keys, model and world; a stage's own keys as `stages[i].<key>`."""
    return problems_between(stages(recipe), world)


def problems_between(drafted: Sequence[Recipe], world: int) -> list[str]:
    """Do the same for stages that may be sound in part: what is checked is what has a value."""
    lines: list[str] = []
    for index, (previous, stage) in enumerate(zip([None, *drafted], drafted, strict=False)):
        found = list(_stage_problems(stage, world))
        if previous is not None:
            found += _order_problems(previous, stage)
        if stage is drafted[-1] and stage.sound >= {"eval", "data", "target_length"}:
            found += task_problems(stage)
        for problem in found:
            of_stage = len(drafted) > 1 and problem.startswith(("target_length", "train.", "eval.", "data."))
            lines.append(f"stages[{index}].{problem}" if of_stage else problem)
    return list(dict.fromkeys(lines))


def _stage_problems(recipe: Recipe, world: int) -> Iterator[str]:
    for needed, check in BETWEEN_KEYS:
        if recipe.sound >= needed:
            yield from check(recipe, world)
    if "model" in recipe.sound and (path := recipe.model.path):
        folder = Path(path)
        yield from (f"model.path: {path}: {problem}" for problem in weight_problems(folder))
        yield from (f"model.path: {problem}" for problem in text_problems(folder))
    if not recipe.sound >= {"model", "original_length", "trained_length"}:
        return
    try:
        yield from _stated_problems(recipe.model)
        facts = model_facts(recipe)
    except RecipeError as error:
        yield str(error)
    except RopeError as error:
        yield from (f"model: {line}" for line in str(error).splitlines())
    else:
        for needed, against in AGAINST_THE_MODEL:
            if recipe.sound >= needed:
                yield from against(recipe, facts, world)


def _stated_problems(model: ModelSection) -> Iterator[str]:
    """Find stated facts that the model's folder contradicts."""
    config = model_config(model)
    for key, value in (model.config or {}).items():
        if key in config and config[key] != value:
            yield (
                f"model.config.{key}: must be what {model.path} says, {shown(config[key])}, "
                f"got {shown(value)}; remove it"
            )


def _schedule_problems(recipe: Recipe, _: int) -> Iterator[str]:
    train = recipe.train
    if train.schedule.warmup >= train.steps:
        yield (
            f"train.schedule.warmup: must be less than the {train.steps} steps, "
            f"got {train.schedule.warmup} steps; lower it or raise train.steps"
        )
    if train.schedule.kind == "constant" and "floor" in train.schedule.model_fields_set:
        yield (
            f"train.schedule.floor: must not be set on a constant schedule, got {train.schedule.floor}; "
            "remove it or set kind: cosine"
        )
    if recipe.eval.every and not recipe.eval.tasks:
        yield f"eval.every: must be 0 without tasks, got {recipe.eval.every}; add eval.tasks or remove it"
    if recipe.eval.every > train.steps:
        yield f"eval.every: must be at most the {train.steps} steps, got {recipe.eval.every}; lower it"


def _batch_problems(recipe: Recipe, world: int) -> Iterator[str]:
    train, length = recipe.train, recipe.pack_length
    needed = train.steps * train.batch_tokens
    if recipe.data.tokens is not None and recipe.data.tokens < needed:
        yield (
            f"data.tokens: must be at least steps x batch_tokens = {needed} tokens, "
            f"got {recipe.data.tokens}; leave it out"
        )
    if world % train.sequence:
        return  # said with the legal degrees by sequence_problems
    data = world // train.sequence
    share = length * data * train.micro_batch
    if train.batch_tokens % share:
        near = max(share, train.batch_tokens // share * share)
        helps = any(
            train.batch_tokens % (length * (world // degree) * train.micro_batch) == 0
            for degree in divisors(world)
            if degree > train.sequence
        )
        name = "data.length" if recipe.data.length else "target_length"
        yield (
            f"train.batch_tokens: must be a multiple of {share} = {name} {length} x data {data} x "
            f"micro_batch {train.micro_batch}, got {train.batch_tokens} tokens; "
            f"use {near} or {near + share}{', or raise train.sequence' if helps else ''}"
        )


def _pack_problems(recipe: Recipe, _: int) -> Iterator[str]:
    """A pack may be shorter than the window, which positions that skip ahead then fill; never longer."""
    length, target = recipe.pack_length, recipe.target_length
    if length > target:
        yield f"data.length: must be at most target_length {target} tokens, got {length}; lower it"
    for name, source in recipe.data.mixed.items():
        try:
            refuse_long_pieces(name, source, length)
        except DataError as error:
            yield str(error)
    for name, source in recipe.data.sources.items():
        if source.positions != "skip" or source.weight == 0:
            continue
        if source.groups == "pack" and length == target:
            yield (
                f"data.sources.{name}.positions: must have room to skip ahead in, got skip in packs of the "
                f"whole target_length {target}; set data.length to less, or remove positions"
            )
        if isinstance(recipe.rope.scheme, AttentionScheme):
            yield (
                f"data.sources.{name}.positions: must be left to rope.kind {recipe.rope.kind}, which forms "
                "positions from places itself, got skip; remove positions"
            )


def _order_problems(previous: Recipe, stage: Recipe) -> Iterator[str]:
    """A window never shrinks."""
    known = "target_length" in previous.sound & stage.sound
    if known and stage.target_length < previous.target_length:
        yield (
            f"target_length: must not fall below the stage before ({previous.target_length} tokens), "
            f"got {stage.target_length}; reorder the stages"
        )


def task_problems(last: Recipe) -> Iterator[str]:
    """What is measured, by the tasks of the last stage, lies inside the window and outside of training."""
    for name, task in last.tasks.items():
        if task.longest > last.target_length:
            yield (
                f"eval.tasks.{name}: must measure inside the target_length of {last.target_length} tokens, "
                f"got rows of {task.longest}; shorten them"
            )
    if last.tasks and last.data.holdout == 0:
        yield "data.holdout: must leave documents for eval.tasks, got 0; hold out a share, 0.03 is usual"


def _length_problems(recipe: Recipe, facts: ModelFacts, _: int) -> Iterator[str]:
    """The window must grow beyond what the weights were trained at."""
    trained = facts.trained_length
    if not recipe.model.from_scratch and recipe.target_length <= trained:
        yield (
            f"target_length: must be greater than the model's trained length of {trained} tokens, "
            f"got {recipe.target_length}; raise it, or state trained_length"
        )


def _head_problems(_: Recipe, facts: ModelFacts, world: int) -> Iterator[str]:
    yield from head_problems(facts)


def _scheme_problems(recipe: Recipe, facts: ModelFacts, _: int) -> Iterator[str]:
    """Compute the frequencies, so that knobs which only fail with the model's numbers fail here."""
    try:
        yield from refusals(
            facts.bases,
            recipe.rope.scheme,
            recipe.target_length,
            model_type=str(facts.config.get("model_type")),
            replace=recipe.rope.replace or recipe.model.from_scratch,
        )
    except RopeError as error:
        yield f"rope: {error}"


BETWEEN_KEYS: tuple[tuple[set[str], Callable[[Recipe, int], Iterator[str]]], ...] = (
    ({"train", "eval"}, _schedule_problems),
    ({"train", "data", "target_length"}, _batch_problems),
    ({"data", "rope", "target_length"}, _pack_problems),
    ({"train", "data", "target_length"}, chunk_problems),
    ({"train"}, kernel_problems),
)
"""Checks, each with the sections that must be sound for it."""
AGAINST_THE_MODEL: tuple[tuple[set[str], Callable[[Recipe, ModelFacts, int], Iterator[str]]], ...] = (
    ({"target_length"}, _length_problems),
    ({"train", "data", "target_length"}, layout_problems),
    ({"train"}, memory_problems),
    (set(), _head_problems),
    ({"eval", "target_length"}, eval_layout_problems),
    ({"rope", "target_length"}, _scheme_problems),
)
