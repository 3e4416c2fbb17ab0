"""Does a recipe hold together? The checks between its keys, the model and the world of ranks."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...data import DataError
from ...data.mixing.candidates import refuse_long_pieces
from ...rope import AttentionScheme, refusals
from ...rope.engines import text_problems, weight_problems
from ...rope.folder import fetching, read_config
from ...rope.hf import read_base
from ...rope.scheme import Base, RopeError
from ...train.errors import shown
from ...train.layout import FLAT_KERNELS, MOST_ELEMENTS, divisors, legal_degrees
from ...train.settings import ModelSection
from .errors import RecipeError
from .schema import Recipe, stages


@dataclass(frozen=True, kw_only=True)
class ModelFacts:
    """Hold what a recipe's checks need of its model: the config and the rotary facts of each layer type."""

    config: Mapping[str, Any]
    bases: Mapping[str, Base]

    @property
    def heads(self) -> list[tuple[int, int]]:
        """List the (query, kv) head counts, one of each kind."""
        return sorted({(base.query_heads, base.kv_heads) for base in self.bases.values()})

    @property
    def trained_length(self) -> int:
        """Give the window the weights were last trained at, tokens."""
        return max(base.trained_length for base in self.bases.values())


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


def model_facts(recipe: Recipe) -> ModelFacts:
    """Read the model's config and its rotary facts; a kind of model that is not handled is a RopeError."""
    config = model_config(recipe.model)
    lengths = {"original_length": recipe.original_length, "trained_length": recipe.trained_length}
    return ModelFacts(config=config, bases=read_base(config, **lengths))


def model_config(model: ModelSection) -> dict[str, Any]:
    """Give the config fields: config.json of the folder, or those stated where there is no folder."""
    if model.path is None:
        return model.stated
    file = Path(model.path) / "config.json"
    if file.is_file():
        return read_config(file)
    if model.config is None:
        raise RecipeError(
            f"model.path: must be a Hugging Face folder with a config.json, got {model.path}; "
            f"correct the path{fetching(model.path)} (a plan without weights needs the facts in model.config)"
        )
    return model.stated


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
    """A window never shrinks, and ranks are arranged once for all stages."""
    both = previous.sound & stage.sound
    if "target_length" in both and stage.target_length < previous.target_length:
        yield (
            f"target_length: must not fall below the stage before ({previous.target_length} tokens), "
            f"got {stage.target_length}; reorder the stages"
        )
    if "train" in both and stage.train.sequence != previous.train.sequence:
        yield (
            f"train.sequence: must be the same in every stage, {previous.train.sequence} as before, "
            f"got {stage.train.sequence}; say it once, above the stages"
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


def _layout_problems(recipe: Recipe, facts: ModelFacts, world: int) -> Iterator[str]:
    train, length = recipe.train, recipe.pack_length
    yield from sequence_problems("train.sequence", train.sequence, length, facts, world)
    heads, _ = facts.heads[-1]
    width = next(iter(facts.bases.values())).head_dim
    elements = train.micro_batch * heads * length * width // train.sequence
    if train.kernel in FLAT_KERNELS and elements >= MOST_ELEMENTS:
        yield (
            f"train.kernel: {train.kernel} takes at most {MOST_ELEMENTS - 1} elements of a rank's queries, "
            f"got {elements}; raise train.sequence or lower train.micro_batch"
        )


def _eval_layout_problems(recipe: Recipe, facts: ModelFacts, world: int) -> Iterator[str]:
    degree, length = recipe.eval.sequence, recipe.target_length
    yield from sequence_problems("eval.sequence", degree, length, facts, world)


def sequence_problems(key: str, sequence: int, length: int, facts: ModelFacts, world: int) -> Iterator[str]:
    for query_heads, kv_heads in facts.heads:
        legal = legal_degrees(query_heads=query_heads, kv_heads=kv_heads, length=length, world=world)
        if sequence not in legal:
            yield (
                f"{key}: must divide the world of {world} ranks (divisors {divisors(world)}), suit "
                f"{query_heads} query and {kv_heads} kv heads and divide {length} tokens, got {sequence}; "
                f"use one of {legal}"
            )


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
)
"""Checks, each with the sections that must be sound for it."""
AGAINST_THE_MODEL: tuple[tuple[set[str], Callable[[Recipe, ModelFacts, int], Iterator[str]]], ...] = (
    ({"target_length"}, _length_problems),
    ({"train", "data", "target_length"}, _layout_problems),
    ({"eval", "target_length"}, _eval_layout_problems),
    ({"rope", "target_length"}, _scheme_problems),
)
