"""Does a recipe hold together? The checks between its keys, the model and the world of ranks."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...eval import EvalError, Task, make_task
from ...rope import AttentionScheme, Base, RopeError, read_base
from ...train.errors import shown
from ...train.layout import divisors, legal_degrees
from ...train.settings import ModelSection
from .errors import RecipeError
from .problems import nearest
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


def check(recipe: Recipe, world: int, *, where: str = "recipe") -> None:
    """Raise one RecipeError with every problem of every stage on `world` ranks; touch no weights."""
    found = problems_of(recipe, world)
    if found:
        raise RecipeError("\n".join(f"{where}: {problem}" for problem in found))


def problems_of(recipe: Recipe, world: int) -> list[str]:
    """List the problems of every stage, each once; a staged recipe's keys are named `stages[i].<key>`."""
    found: dict[str, None] = {}
    resolved = stages(recipe)
    for index, stage in enumerate(resolved):
        prefix = f"stages[{index}]." if recipe.stages else ""
        for problem in _stage_problems(stage, world, previous=resolved[index - 1] if index else None):
            shared = not problem.startswith(("target_length", "train.", "eval.", "data.")) or not prefix
            found[problem if shared else prefix + problem] = None
    return list(found)


def missing_files(recipe: Recipe) -> list[str]:
    """List what a real run reads and does not find."""
    found = []
    if recipe.model.path is not None and not (Path(recipe.model.path) / "config.json").is_file():
        told = f"got {recipe.model.path}; put the model there or correct the path"
        found.append(f"model.path: must be a Hugging Face folder with a config.json, {told}")
    if not any(recipe.model.tokenizer_folder.glob("tokenizer*")):
        told = f"got {recipe.model.tokenizer_folder}; put the tokenizer there or correct the path"
        found.append(f"model.tokenizer: must be a folder with a tokenizer, {told}")
    return found


def model_facts(recipe: Recipe) -> ModelFacts:
    """Read the model's config and its rotary facts; a kind of model that is not handled is a RopeError."""
    config = model_config(recipe.model)
    original = recipe.original_length
    if original is None and recipe.model.from_scratch:
        original = config.get("max_position_embeddings")
    bases = read_base(config, original_length=original, trained_length=recipe.trained_length)
    return ModelFacts(config=config, bases=bases)


def model_config(model: ModelSection) -> dict[str, Any]:
    """Give the config fields: config.json of the folder, or the section's own where there is no folder."""
    stated = {"model_type": "llama", **model.config} if model.config is not None else None
    if model.path is None:
        assert stated is not None
        return stated
    file = Path(model.path) / "config.json"
    if file.is_file():
        try:
            return json.loads(file.read_text(encoding="utf-8"))
        except ValueError as error:
            raise RecipeError(f"{file}: must be JSON, got {error}; restore the model's config") from error
    if stated is None:
        raise RecipeError(
            f"model.path: must be a Hugging Face folder with a config.json, got {model.path}; "
            "correct the path (a plan without weights needs the facts in model.config)"
        )
    return stated


def _stage_problems(recipe: Recipe, world: int, *, previous: Recipe | None) -> Iterator[str]:
    yield from _config_problems(recipe.model)
    yield from _schedule_problems(recipe)
    yield from _batch_problems(recipe, world)
    yield from _pack_problems(recipe)
    try:
        facts = model_facts(recipe)
    except RecipeError as error:
        yield str(error)
    except RopeError as error:
        yield f"model: {error}"
    else:
        yield from _length_problems(recipe, facts, previous)
        for key, sequence, length in (
            ("train", recipe.train.sequence, recipe.pack_length),
            ("eval", recipe.eval.sequence, recipe.target_length),
        ):
            yield from sequence_problems(f"{key}.sequence", sequence, length, facts, world)
        yield from _scheme_problems(recipe, facts)


def _config_problems(model: ModelSection) -> Iterator[str]:
    """Find facts that no config of the model's kind has, or that its folder contradicts."""
    from transformers import CONFIG_MAPPING

    if model.config is None:
        return
    kind = model.config.get("model_type", "llama")
    if kind not in CONFIG_MAPPING:
        yield f"model.config.model_type: must be a kind that transformers knows, got {kind!r}; correct it"
        return
    known = CONFIG_MAPPING[kind]().to_dict().keys() | {"rope_theta", "rope_scaling"}
    for key in model.config:
        if key not in known:
            yield f"model.config.{key}: must be a field of {kind} configs, got {key!r}; {nearest(key, known)}"
    if model.path is not None and (Path(model.path) / "config.json").is_file():
        real = model_config(model)
        for key, value in model.config.items():
            if key in real and real[key] != value:
                yield (
                    f"model.config.{key}: must be what {model.path} says, {shown(real[key])}, "
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
    trained = max(base.trained_length for base in facts.bases.values())
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


def _scheme_problems(recipe: Recipe, facts: ModelFacts) -> Iterator[str]:
    """Compute the frequencies once, so that knobs which only fail with the model's numbers fail here."""
    for layer_type, base in facts.bases.items():
        try:
            recipe.rope.scheme.frequencies(base, target_length=recipe.target_length)
        except RopeError as error:
            yield f"rope ({layer_type}): {error}"


def check_all(recipe: Recipe, world: int, *, where: str) -> None:
    """Raise all problems that stand in the way of a real run: keys, model, world, files."""
    raise_all(where, [*recipe_problems(recipe, world), *missing_files(recipe)])


def raise_all(where: str, problems: list[str]) -> None:
    """Raise one error that lists all problems, if there are any."""
    if problems:
        raise RecipeError("\n".join(f"{where}: {problem}" for problem in problems))


def recipe_problems(recipe: Recipe, world: int) -> list[str]:
    """List what is wrong between the keys, and with the settings of the evaluation tasks."""
    tasks = dict.fromkeys(problem for stage in stages(recipe) for problem in task_problems(stage))
    return [*problems_of(recipe, world), *tasks]


def tasks_of(stage: Recipe) -> dict[str, Task]:
    """Make the evaluation tasks of a stage by name."""
    return {name: make_task(section.kind, **section.settings) for name, section in stage.eval.tasks.items()}


def task_problems(stage: Recipe) -> Iterator[str]:
    """Find the tasks that cannot be made from their settings."""
    for name, section in stage.eval.tasks.items():
        try:
            make_task(section.kind, **section.settings)
        except EvalError as error:
            yield f"eval.tasks.{name}: {error}"
