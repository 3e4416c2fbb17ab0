"""What is a run? The typed, frozen form of a recipe, its stages, and the fingerprint of its numbers."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from ..data.spec import DataSpec
from ..rope import Scheme, make_scheme
from ..rope.readers import ENGINES
from .errors import TrainError
from .merge import merge
from .problems import problems, shown

Positive = Annotated[int, Field(gt=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Betas = Annotated[
    tuple[float, float], BeforeValidator(lambda value: tuple(value) if isinstance(value, list) else value)
]

LAYOUT_AND_MEMORY = (
    "micro_batch", "sequence", "zero_stage", "checkpoint_every", "keep", "deterministic",
    "gradient_checkpointing", "loss_chunk", "kernel", "accept_short_documents",
)  # fmt: skip


def _is_engine(name: str) -> str:
    if name not in ENGINES:
        raise ValueError(f"must be one of {', '.join(ENGINES)}, got {name}; correct the name")
    return name


class Section(BaseModel):
    """Refuse unknown keys, loose types and changes, in every part of a recipe."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class ModelSection(Section):
    """Name the model: a folder, the config of one trained from scratch, or a folder with its facts."""

    path: str | None = None
    """Hugging Face folder; null trains from scratch."""
    config: dict[str, Any] | None = None
    """Config fields: the model from scratch, or the facts of `path`, so that a plan needs no weights."""
    tokenizer: str | None = None
    """Folder of the tokenizer; null takes the model's own."""

    @model_validator(mode="after")
    def _is_one_model(self) -> "ModelSection":
        if self.path is None and self.config is None:
            raise ValueError("must name a model, got neither path nor config; add path: FOLDER")
        if self.path is None and self.tokenizer is None:
            raise ValueError("must name a tokenizer from scratch, got none; add tokenizer: FOLDER")
        return self

    @property
    def from_scratch(self) -> bool:
        """Say whether the weights are drawn instead of read."""
        return self.path is None

    @property
    def tokenizer_folder(self) -> Path:
        """Point at the folder the tokenizer is read from."""
        return Path(self.tokenizer or self.path or "")


class RopeSection(Section):
    """Name the scheme and its knobs; the other keys are the scheme's own."""

    model_config = ConfigDict(extra="allow")

    kind: str
    replace: bool = False
    """Replace the scheme the model carries (stacking one on another is refused)."""

    @model_validator(mode="after")
    def _is_a_scheme(self) -> "RopeSection":
        self.scheme  # noqa: B018  builds it, so that a wrong knob is found with the other problems
        return self

    @property
    def knobs(self) -> dict[str, Any]:
        """Give the scheme's own knobs as written."""
        return dict(self.model_extra or {})

    @cached_property
    def scheme(self) -> Scheme:
        """Build the scheme; a wrong name or knob is a RopeError."""
        return make_scheme(self.kind, **self.knobs)


class OptimizerSection(Section):
    """Set AdamW."""

    betas: Betas = (0.9, 0.95)
    eps: Annotated[float, Field(gt=0)] = 1e-8
    weight_decay: Annotated[float, Field(ge=0)] = 0.1
    no_decay: list[str] = Field(default=["*norm*", "*bias", "*embed*"])
    """Shell patterns of the parameter names that weight decay leaves alone."""
    clip: Annotated[float, Field(ge=0)] = 1.0
    """Largest norm of the global gradient; 0 clips nothing."""

    @model_validator(mode="after")
    def _betas_are_rates(self) -> "OptimizerSection":
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(
                f"betas: must lie in [0, 1), got {list(self.betas)}; the usual pair is [0.9, 0.95]"
            )
        return self


class ScheduleSection(Section):
    """Shape the learning rate as a pure function of the step."""

    kind: Literal["cosine", "linear", "constant"] = "cosine"
    warmup: Annotated[int, Field(ge=0)] = 0
    """Steps of linear rise to the peak."""
    floor: Fraction = 0.1
    """Fraction of the peak that is left at the last step."""


class TrainSection(Section):
    """Set the optimizer's steps, their size in tokens and how ranks share them."""

    steps: Positive
    batch_tokens: Positive
    """Tokens an optimizer step reads, over all ranks."""
    micro_batch: Positive = 1
    """Packs that a group of sequence ranks forwards at once."""
    sequence: Positive = 1
    zero_stage: Literal[0, 1, 2, 3] = 2
    optimizer: OptimizerSection = OptimizerSection()
    learning_rate: Annotated[float, Field(gt=0)]
    schedule: ScheduleSection = ScheduleSection()
    checkpoint_every: Positive
    """Steps between checkpoints."""
    keep: Positive = 2
    """Checkpoints that stay; older ones are deleted."""
    seed: Annotated[int, Field(ge=0)] = 0
    dtype: Literal["float32", "bfloat16"] = "float32"
    deterministic: bool = True
    gradient_checkpointing: bool = True
    loss_chunk: Positive = 1024
    """Tokens whose logits exist at once."""
    accept_short_documents: bool = False
    """Train although almost no query-key pair of the plan lies beyond the trained length."""
    kernel: Literal["auto", "sdpa", "varlen", "flex", "flash", "cudnn"] = "auto"


class TaskSection(Section):
    """Name an evaluation task; the other keys are the task's own."""

    model_config = ConfigDict(extra="allow")

    kind: str

    @property
    def settings(self) -> dict[str, Any]:
        """Give the task's own settings as written."""
        return dict(self.model_extra or {})


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

    @cached_property
    def fingerprint(self) -> str:
        """Hash the values that matter for the numbers: sha256 in hex, equal wherever the same run is made."""
        canonical = json.dumps(numbers(self), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()


def parse(values: Mapping[str, Any], *, where: str = "recipe") -> Recipe:
    """Turn resolved values into a Recipe; a TrainError lists all problems, those of the stages too."""
    filled, found = _filled(dict(values))
    try:
        recipe = Recipe.model_validate(filled)
    except ValidationError as error:
        found += problems(error, Recipe)
    else:
        found += _stage_problems(recipe)
    if found:
        raise TrainError("\n".join(f"{where}: {problem}" for problem in found))
    return recipe


def stages(recipe: Recipe) -> list[Recipe]:
    """Resolve the differences in order, each on top of the one before; a recipe without any is one stage."""
    return [Recipe.model_validate(values) for values in _stage_values(recipe)]


def numbers(recipe: Recipe) -> dict[str, Any]:
    """Give the values that decide the numbers of a run.

    Left out: where things lie (of the model only the folder's name stays), what is measured, what is kept,
    and how ranks and memory share the work, since a run may continue on another layout.
    """
    values = _plain(recipe)
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
    del values["data"]["store"]
    for key in LAYOUT_AND_MEMORY:
        del values["train"][key]
    return values


def difference(ours: Recipe | Mapping[str, Any], theirs: Recipe | Mapping[str, Any]) -> list[str]:
    """List the fields in which two recipes (or their `numbers`) differ: `<key>: <ours>, not <theirs>`."""
    one, other = dict(_leaves(_mapping(ours))), dict(_leaves(_mapping(theirs)))
    return [
        f"{key}: {_leaf(one, key)}, not {_leaf(other, key)}"
        for key in sorted(one.keys() | other.keys())
        if one.get(key, ...) != other.get(key, ...)
    ]


def _filled(values: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Take what a staged recipe leaves to its stages from the last; say what the first one overrides."""
    found: list[str] = []
    if not _are_stages(values.get("stages")):
        return values, found
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
            found.append(f"{path}: must be left to the stages, got {shown(given)}; change stages[0].{path}")
    return values, found


def _are_stages(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(stage, Mapping) for stage in value)


def _at(tree: Any, *path: str) -> Any:
    for key in path:
        tree = tree.get(key) if isinstance(tree, Mapping) else None
    return tree


def _stage_values(recipe: Recipe) -> Iterator[dict[str, Any]]:
    values: dict[str, Any] = recipe.model_dump(exclude={"stages"}, exclude_unset=True)
    for difference_ in recipe.stages or [{}]:
        values = merge(values, difference_)
        yield values


def _stage_problems(recipe: Recipe) -> list[str]:
    found = []
    for index, values in enumerate(_stage_values(recipe)):
        nested = {"stages", "run_dir"} & recipe.stages[index].keys() if recipe.stages else set()
        found += [
            f"stages[{index}].{key}: must not be set in a stage, got a value; remove it" for key in nested
        ]
        try:
            Recipe.model_validate(values)
        except ValidationError as error:
            found += [f"stages[{index}].{problem}" for problem in problems(error, Recipe)]
    return found


def _plain(recipe: Recipe) -> dict[str, Any]:
    return recipe.model_dump(mode="json")


def _mapping(values: Recipe | Mapping[str, Any]) -> Mapping[str, Any]:
    return _plain(values) if isinstance(values, Recipe) else values


def _leaves(tree: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(tree, Mapping) and tree:
        for key, value in tree.items():
            yield from _leaves(value, f"{path}.{key}" if path else str(key))
    elif isinstance(tree, list) and any(isinstance(item, Mapping) for item in tree):
        for index, value in enumerate(tree):
            yield from _leaves(value, f"{path}[{index}]")
    else:
        yield path, tree


def _leaf(leaves: Mapping[str, Any], key: str) -> str:
    return shown(leaves[key]) if key in leaves else "absent"
