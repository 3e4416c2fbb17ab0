"""Does a recipe hold together? The checks between its keys, the model and the world of ranks."""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...rope import AttentionScheme
from ...rope.engines import missing_weights, weight_problems
from ...rope.folder import fetching
from ...rope.hf import read_base
from ...rope.scheme import Base, RopeError, Scheme
from ...train.errors import shown
from ...train.layout import divisors, legal_degrees
from ...train.settings import ModelSection
from .errors import RecipeError, raise_all
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


def check(recipe: Recipe, world: int, *, where: str = "recipe", more: Iterable[str] = ()) -> None:
    """Raise one RecipeError with all that stands in the way of a real run on `world` ranks; touch no weights.

    `more` are problems that were found by other means.
    """
    raise_all(where, [*more, *problems_of(recipe, world), *missing_files(recipe)])


def problems_of(recipe: Recipe, world: int) -> list[str]:
    """List what does not hold between keys, model and world; a stage's own keys as `stages[i].<key>`."""
    lines: list[str] = []
    previous = None
    for index, stage in enumerate(stages(recipe)):
        for problem in _stage_problems(stage, world, previous):
            of_stage = recipe.stages and problem.startswith(("target_length", "train.", "eval.", "data."))
            lines.append(f"stages[{index}].{problem}" if of_stage else problem)
        previous = stage
    return list(dict.fromkeys(lines))


def missing_files(recipe: Recipe) -> list[str]:
    """List what a real run reads and does not find."""
    model, lines = recipe.model, []
    if model.path is not None and not (Path(model.path) / "config.json").is_file():
        lines.append(
            f"model.path: must be a Hugging Face folder with a config.json, got {model.path}; "
            f"put the model there or correct the path{fetching(model.path)}"
        )
    elif model.path is not None:
        lines += [f"model.path {model.path}: {problem}" for problem in missing_weights(Path(model.path))]
    if not any(model.tokenizer_folder.glob("tokenizer*")):
        lines.append(
            f"model.tokenizer: must be a folder with a tokenizer, got {model.tokenizer_folder}; "
            f"put the tokenizer there or correct the path{fetching(model.tokenizer_folder)}"
        )
    return lines


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


def read_config(file: Path) -> dict[str, Any]:
    """Read a model's config.json."""
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RecipeError(f"{file}: must be JSON, got {error}; restore the model's config") from error
    if not isinstance(values, dict):
        raise RecipeError(f"{file}: must hold an object, got {shown(values)}; restore the model's config")
    return values


def _stage_problems(recipe: Recipe, world: int, previous: Recipe | None) -> Iterator[str]:
    yield from _schedule_problems(recipe)
    yield from _batch_problems(recipe, world)
    yield from _pack_problems(recipe)
    if path := recipe.model.path:
        yield from (f"model.path {path}: {problem}" for problem in weight_problems(Path(path)))
    try:
        yield from _stated_problems(recipe.model)
        facts = model_facts(recipe)
    except RecipeError as error:
        yield str(error)
    except RopeError as error:
        yield from (f"model: {line}" for line in str(error).splitlines())
    else:
        yield from _length_problems(recipe, facts, previous)
        for key, sequence, length in (
            ("train", recipe.train.sequence, recipe.pack_length),
            ("eval", recipe.eval.sequence, recipe.target_length),
        ):
            yield from sequence_problems(f"{key}.sequence", sequence, length, facts, world)
        yield from scheme_problems(recipe.rope.scheme, facts, recipe.target_length)


def _stated_problems(model: ModelSection) -> Iterator[str]:
    """Find stated facts that the model's folder contradicts."""
    config = model_config(model)
    for key, value in (model.config or {}).items():
        if key in config and config[key] != value:
            yield (
                f"model.config.{key}: must be what {model.path} says, {shown(config[key])}, "
                f"got {shown(value)}; remove it"
            )


def _schedule_problems(recipe: Recipe) -> Iterator[str]:
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
        name = "data.length" if recipe.data.length else "target_length"
        yield (
            f"train.batch_tokens: must be a multiple of {share} = {name} {length} x data {data} x "
            f"micro_batch {train.micro_batch}, got {train.batch_tokens} tokens; "
            f"use {near} or {near + share}, or raise train.sequence"
        )


def _pack_problems(recipe: Recipe) -> Iterator[str]:
    """A pack may be shorter than the window, which positions that skip ahead then fill; never longer."""
    length, target = recipe.pack_length, recipe.target_length
    if length > target:
        yield f"data.length: must be at most target_length {target} tokens, got {length}; lower it"
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


def _length_problems(recipe: Recipe, facts: ModelFacts, previous: Recipe | None) -> Iterator[str]:
    """A window must grow: beyond what the weights were trained at, and from stage to stage never back."""
    length = recipe.target_length
    if recipe.model.from_scratch:
        return
    trained = facts.trained_length
    if length <= trained:
        yield (
            f"target_length: must be greater than the model's trained length of {trained} tokens, "
            f"got {length}; raise it, or state trained_length"
        )
    elif previous is not None and length < previous.target_length:
        yield (
            f"target_length: must not fall below the stage before ({previous.target_length} tokens), "
            f"got {length}; reorder the stages"
        )


def sequence_problems(key: str, sequence: int, length: int, facts: ModelFacts, world: int) -> Iterator[str]:
    for query_heads, kv_heads in facts.heads:
        legal = legal_degrees(query_heads=query_heads, kv_heads=kv_heads, length=length, world=world)
        if sequence not in legal:
            yield (
                f"{key}: must divide the world of {world} ranks (divisors {divisors(world)}), suit "
                f"{query_heads} query and {kv_heads} kv heads and divide {length} tokens, got {sequence}; "
                f"use one of {legal}"
            )


def scheme_problems(scheme: Scheme, facts: ModelFacts, target_length: int) -> Iterator[str]:
    """Compute the frequencies once, so that knobs which only fail with the model's numbers fail here."""
    for layer_type, base in facts.bases.items():
        try:
            scheme.frequencies(base, target_length=target_length)
        except RopeError as error:
            yield f"rope ({layer_type}): {error}"
