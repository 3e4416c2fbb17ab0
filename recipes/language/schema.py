"""What is a run? The typed, frozen form of a recipe, its stages, and the fingerprint of its numbers."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    create_model,
    field_validator,
)

from ...data.registry import PluginSection
from ...data.spec import DataSpec
from ...eval.task import NAME, TASKS, Task
from ...rope.engines import ENGINES
from ...rope.knobs import LONGEST
from ...rope.scheme import RopeError, Scheme, validate_scheme
from ...train.errors import shown
from ...train.settings import Folder, ModelSection, Positive, Section, Stage, TrainSection
from .errors import raise_all
from .layers import inside, merge
from .problems import problems

LAYOUT_AND_MEMORY = (
    "micro_batch", "sequence", "zero_stage", "checkpoint_every", "keep", "deterministic",
    "gradient_checkpointing", "loss_chunk", "kernel", "accept_short_documents",
    "heads", "chunk", "store", "keep_attention", "on_non_finite", "on_spike", "parity_check",
)  # fmt: skip
Window = Annotated[int, Field(gt=0, le=LONGEST)]

LEFT_TO_STAGES = (("target_length",), ("train", "steps"))
"""What a recipe leaves to its stages where the first of them says it."""
NOT_IN_STAGES = ("stages", "run_dir", "model")
"""What holds for a whole run: a stage goes on with the weights of the one before it."""


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
    """By name, each with its kind: what is measured, on held-out documents."""
    every: Annotated[int, Field(ge=0)] = 0
    """Steps between evaluations; 0 evaluates only at the end."""
    sequence: Positive = 1
    """Ranks that share a row that is measured."""
    chunk: Positive | None = None
    """Tokens of a row that are in the model at once, over all its ranks; null: the whole row."""

    @field_validator("tasks")
    @classmethod
    def _names_name_files(cls, tasks: dict[str, TaskSection]) -> dict[str, TaskSection]:
        for name in tasks:
            if not NAME.fullmatch(name):
                raise ValueError(f"a name must be letters, digits, - or _, got {name!r}; rename it")
        return tasks


class Recipe(Section):
    """Hold everything one run needs; `stages` are differences, resolved by `stages(recipe)`."""

    run_dir: Folder
    """Folder of all that the run writes; the same command on it goes on where it stopped."""
    target_length: Window
    """Window after the run, tokens."""
    model: ModelSection
    original_length: Window | None = None
    """Window of the unscaled frequencies, tokens; null reads it from the model, and is an error for one that
    is scaled and does not say it."""
    trained_length: Window | None = None
    """Window the weights were last trained at, tokens; null reads it from the model."""
    rope: RopeSection
    data: DataSpec
    train: TrainSection
    eval: EvalSection = EvalSection()
    serve: list[Annotated[str, AfterValidator(_is_engine)]] = Field(default_factory=list)
    """Engines that are to serve the result; a scheme that one cannot serve is said before training."""
    stages: list[dict[str, Any]] = Field(default_factory=list)
    """Differences, each on top of the stage before: a run of several windows or mixes."""

    @property
    def sound(self) -> frozenset[str]:
        """Name the sections that have a value: all of them, but in a draft."""
        return frozenset(self.__dict__.keys() & Recipe.model_fields.keys())

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


@dataclass(frozen=True)
class Draft:
    """What of a recipe's values could be typed, stage by stage, and what is wrong with the rest."""

    stages: list[Recipe]
    """The whole where there are no stages; one that is wrong in part has its sound sections."""
    problems: list[str]


def draft(values: Mapping[str, Any]) -> Draft:
    """Type as much of resolved values as can be."""
    resolved, lines = filled(dict(values))
    whole, wrong = _typed(resolved)
    if "stages" not in whole.sound or not whole.stages:
        return Draft([whole], lines + wrong)
    typed, told = [], set(wrong)
    for index, (difference, stage_values) in enumerate(
        zip(whole.stages, _stage_values(resolved, whole.stages), strict=True)
    ):
        for key in difference.keys() & {*NOT_IN_STAGES}:
            lines.append(f"stages[{index}].{key}: must not be set in a stage, got a value; remove it")
        stage, found = _typed(stage_values)
        typed.append(stage)
        lines += [f"stages[{index}].{problem}" for problem in found if problem not in told]
        told |= set(found)
    return Draft(typed, wrong + lines)


def parse(values: Mapping[str, Any], *, where: str = "recipe") -> Recipe:
    """Turn resolved values into a Recipe; a RecipeError lists all problems, those of the stages too."""
    raise_all(where, draft(values).problems)
    return Recipe.model_validate(filled(dict(values))[0])


def stages(recipe: Recipe) -> list[Recipe]:
    """Resolve the differences in order, each on top of the one before; a recipe without any is one stage."""
    values = recipe.model_dump(exclude={"stages"}, exclude_unset=True)
    return [Recipe.model_validate(stage) for stage in _stage_values(values, recipe.stages or [{}])]


def numbers(recipe: Recipe) -> dict[str, Any]:
    """Give the values that decide the numbers of a run.

    Left out: where things lie (of the model only the folder's name stays), what is measured, what is kept,
    how ranks and memory share the work, since a run may continue on another layout, and what follows a bad
    step, since one that was stopped by it may go on without: a checkpoint lists the steps that were skipped.
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


def written_out(said: Any) -> Any:
    """Write a typed part of a recipe as plain values, with every default and all knobs of its plug-ins.

    What the stages say by themselves stays with them.
    """
    if isinstance(said, BaseModel):
        names = sorted(type(said).model_fields, key=lambda name: name != "kind")
        values = {name: getattr(said, name) for name in names}
        if isinstance(said, PluginSection):
            values |= {field.name: getattr(said.made, field.name) for field in fields(said.made)}
        if isinstance(said, Recipe) and said.stages:
            return _without_the_stages(written_out(values))
        return written_out(values)
    if isinstance(said, Scheme):
        return {"kind": said.name, **written_out(said.knobs)}
    if isinstance(said, Mapping):
        return {name: written_out(value) for name, value in said.items()}
    return [written_out(item) for item in said] if isinstance(said, list | tuple) else said


def _without_the_stages(values: dict[str, Any]) -> dict[str, Any]:
    """Take back what `filled` took from the stages."""
    first = values["stages"][0]
    for path in LEFT_TO_STAGES:
        *section, key = path
        if inside(first, path) is not None:
            del inside(values, section)[key]
    return values


def filled(values: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Take what a staged recipe leaves to its stages from the last; say what the first one overrides."""
    lines: list[str] = []
    if not _are_stages(values.get("stages")):
        return values, lines
    last: dict[str, Any] = {}
    for stage in values["stages"]:
        last = merge(last, stage)
    first = values["stages"][0]
    for *section, key in LEFT_TO_STAGES:
        path = ".".join([*section, key])
        given, opening, final = (inside(tree, [*section, key]) for tree in (values, first, last))
        if given is None and opening is not None:
            values = merge(values, {key: final} if not section else {section[0]: {key: final}})
        elif given is not None and opening is not None and (key == "steps" or given != final):
            lines.append(f"{path}: must be left to the stages, got {shown(given)}; change stages[0].{path}")
    return values, lines


def _are_stages(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(stage, Mapping) for stage in value)


def _stage_values(values: Mapping[str, Any], differences: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    stage = {key: value for key, value in values.items() if key != "stages"}
    for difference in differences:
        stage = merge(stage, {key: value for key, value in difference.items() if key not in NOT_IN_STAGES})
        yield stage


def _typed(values: Mapping[str, Any]) -> tuple[Recipe, list[str]]:
    """Type a recipe, or its sound sections beside what is wrong with the others."""
    try:
        return Recipe.model_validate(values), []
    except ValidationError as error:
        wrong = {str(problem["loc"][0]) for problem in error.errors()}
        anything: dict[str, Any] = dict.fromkeys(wrong & Recipe.model_fields.keys(), (Any, None))
        rest = {key: value for key, value in values.items() if key not in wrong}
        part: Recipe = create_model("Part", __base__=Recipe, **anything).model_validate(rest)
        for name in anything:
            vars(part).pop(name)
        return part, problems(error, Recipe)
