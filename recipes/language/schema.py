"""What is a run? The typed, frozen form of a recipe, its stages, and the fingerprint of its numbers."""

import json
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, ConfigDict, Field, ValidationError

from ...data.registry import PluginSection
from ...data.spec import DataSpec
from ...eval.task import TASKS, Task
from ...rope.engines import ENGINES
from ...rope.scheme import RopeError, Scheme, validate_scheme
from ...train.errors import shown
from ...train.settings import ModelSection, Positive, Section, Stage, TrainSection
from .errors import raise_all
from .layers import merge
from .problems import problems

LAYOUT_AND_MEMORY = (
    "micro_batch", "sequence", "zero_stage", "checkpoint_every", "keep", "deterministic",
    "gradient_checkpointing", "loss_chunk", "kernel", "accept_short_documents",
)  # fmt: skip


def _is_engine(name: str) -> str:
    if name not in ENGINES:
        raise ValueError(f"must be one of {', '.join(ENGINES)}, got {name}; correct the name")
    return name


class SchemeSection(PluginSection[Scheme]):
    """Name a scheme and its knobs."""

    model_config = ConfigDict(strict=True)

    @cached_property
    def made(self) -> Scheme:
        try:
            return validate_scheme(self.kind, self.knobs)
        except RopeError as error:
            raise ValueError(str(error).removeprefix("rope.")) from error

    @property
    def scheme(self) -> Scheme:
        return self.made


class RopeSection(SchemeSection):
    """Name the scheme of the run."""

    replace: bool = False
    """Replace the scheme the model carries (stacking one on another is refused)."""


class TaskSection(PluginSection[Task]):
    """Name an evaluation task and its settings."""

    registry = TASKS


class EvalSection(Section):
    """Say what is measured, and how often during training."""

    tasks: dict[str, TaskSection] = Field(default_factory=dict)
    every: Annotated[int, Field(ge=0)] = 0
    """Steps between evaluations; 0 evaluates only at the end."""
    sequence: Positive = 1


class Recipe(Section):
    """Hold everything one run needs; `stages` are differences, resolved by `stages(recipe)`."""

    run_dir: str
    target_length: Positive
    model: ModelSection
    original_length: Positive | None = None
    """Window of the unscaled frequencies, tokens; null reads it from the model."""
    trained_length: Positive | None = None
    """Window the weights were last trained at, tokens; null reads it from the model."""
    rope: RopeSection
    data: DataSpec
    train: TrainSection
    eval: EvalSection = EvalSection()
    serve: list[Annotated[str, AfterValidator(_is_engine)]] = Field(default_factory=list)
    """Engines that are to serve the result; a scheme that one cannot serve is said before training."""
    stages: list[dict[str, Any]] = Field(default_factory=list)

    @property
    def pack_length(self) -> int:
        """Give the tokens of a training sequence; fewer than the target length where the data says so."""
        return self.data.length or self.target_length

    @property
    def tasks(self) -> dict[str, Task]:
        """Give the evaluation tasks by name."""
        return {name: section.made for name, section in self.eval.tasks.items()}

    @property
    def fingerprint(self) -> str:
        """Hash the values that matter for the numbers: sha256 in hex, equal wherever the same run is made."""
        return self.stage.fingerprint

    @cached_property
    def stage(self) -> Stage:
        """Give what the training loop needs of this recipe; its own `stages` are resolved before."""
        return Stage(
            model=self.model,
            scheme=self.rope.scheme,
            replace=self.rope.replace or self.model.from_scratch,
            original_length=self.original_length,
            trained_length=self.trained_length,
            target_length=self.target_length,
            pack_length=self.pack_length,
            train=self.train,
            evaluate_every=self.eval.every,
            numbers=numbers(self),
        )


def parse(values: Mapping[str, Any], *, where: str = "recipe") -> Recipe:
    """Turn resolved values into a Recipe; a RecipeError lists all problems, those of the stages too."""
    filled, lines = _filled(dict(values))
    recipe = None
    try:
        recipe = Recipe.model_validate(filled)
        lines += _stage_problems(recipe)
    except ValidationError as error:
        lines += problems(error, Recipe)
    raise_all(where, lines)
    assert recipe is not None
    return recipe


def stages(recipe: Recipe) -> list[Recipe]:
    """Resolve the differences in order, each on top of the one before; a recipe without any is one stage."""
    return [Recipe.model_validate(values) for values in _stage_values(recipe)]


def numbers(recipe: Recipe) -> dict[str, Any]:
    """Give the values that decide the numbers of a run.

    Left out: where things lie (of the model only the folder's name stays), what is measured, what is kept,
    and how ranks and memory share the work, since a run may continue on another layout.
    """
    values = recipe.model_dump(mode="json")
    model = values["model"]
    values["model"] = {
        "path": Path(model["path"]).name if model["path"] else None,
        "config": model["config"] if model["path"] is None else None,
    }
    for key in ("run_dir", "eval", "serve"):
        del values[key]
    # A scheme may read a file: what it read decides the numbers, not where it lay.
    values["rope"] |= {knob: recipe.rope.scheme.knobs[knob] for knob in recipe.rope.knobs}
    values["rope"] = json.loads(json.dumps(values["rope"]))
    for key in ("store", "engine"):
        del values["data"][key]
    for key in LAYOUT_AND_MEMORY:
        del values["train"][key]
    return values


def _filled(values: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Take what a staged recipe leaves to its stages from the last; say what the first one overrides."""
    lines: list[str] = []
    if not _are_stages(values.get("stages")):
        return values, lines
    last: dict[str, Any] = {}
    for stage in values["stages"]:
        last = merge(last, stage)
    first = values["stages"][0]
    for section, key in (((), "target_length"), (("train",), "steps")):
        path = ".".join([*section, key])
        given, opening, final = (_at(tree, *section, key) for tree in (values, first, last))
        if given is None and opening is not None:
            values = merge(values, {key: final} if not section else {section[0]: {key: final}})
        elif given is not None and opening is not None and (key == "steps" or given != final):
            lines.append(f"{path}: must be left to the stages, got {shown(given)}; change stages[0].{path}")
    return values, lines


def _are_stages(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(stage, Mapping) for stage in value)


def _at(tree: Any, *path: str) -> Any:
    for key in path:
        tree = tree.get(key) if isinstance(tree, Mapping) else None
    return tree


def _stage_values(recipe: Recipe) -> Iterator[dict[str, Any]]:
    values: dict[str, Any] = recipe.model_dump(exclude={"stages"}, exclude_unset=True)
    for difference in recipe.stages or [{}]:
        values = merge(values, difference)
        yield values


def _stage_problems(recipe: Recipe) -> list[str]:
    lines = []
    for index, (difference, values) in enumerate(zip(recipe.stages, _stage_values(recipe), strict=False)):
        for key in difference.keys() & {"stages", "run_dir"}:
            lines.append(f"stages[{index}].{key}: must not be set in a stage, got a value; remove it")
        try:
            Recipe.model_validate(values)
        except ValidationError as error:
            lines += [f"stages[{index}].{problem}" for problem in problems(error, Recipe)]
    return lines
