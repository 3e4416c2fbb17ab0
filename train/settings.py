"""What does the training room take from a recipe? Its own sections, and of one stage what the loop needs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from ..data.sources.source import Folder
from ..rope.scheme import Scheme
from .errors import shown
from .layout import Heads, Layout

Positive = Annotated[int, Field(gt=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Betas = Annotated[
    tuple[float, float], BeforeValidator(lambda value: tuple(value) if isinstance(value, list) else value)
]


class Section(BaseModel):
    """Refuse unknown keys, loose types and changes, in every part of a recipe."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class ModelSection(Section):
    """Name the model: a folder, the config of one trained from scratch, or a folder with its facts."""

    path: Folder | None = None
    """Hugging Face folder; null trains from scratch."""
    config: dict[str, Any] | None = None
    """Config fields: the model from scratch, or the facts of `path`, so that a plan needs no weights."""
    tokenizer: Folder | None = None
    """Folder of the tokenizer; null takes the model's own."""

    @model_validator(mode="after")
    def _is_one_model(self) -> ModelSection:
        if self.path is None and self.config is None:
            raise ValueError("must name a model, got neither path nor config; add path: FOLDER")
        if self.path is None and self.tokenizer is None:
            raise ValueError("must name a tokenizer from scratch, got none; add tokenizer: FOLDER")
        return self

    @property
    def stated(self) -> dict[str, Any]:
        """Give the config fields that are stated, a Llama's where no type is."""
        return {"model_type": "llama", **(self.config or {})}

    @property
    def from_scratch(self) -> bool:
        """Say whether the weights are drawn instead of read."""
        return self.path is None

    @property
    def tokenizer_folder(self) -> Path:
        """Point at the folder the tokenizer is read from."""
        return Path(self.tokenizer or self.path or "")


class OptimizerSection(Section):
    """Set AdamW."""

    betas: Betas = (0.9, 0.95)
    """Decay of the mean gradient and of its square, a step."""
    eps: Annotated[float, Field(gt=0)] = 1e-8
    """Added to the root of the squared gradient's mean."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.1
    """Share of a weight, times the learning rate, that is taken off at each step."""
    no_decay: list[str] = Field(default=["*norm*", "*bias", "*embed*"])
    """Shell patterns of the parameter names that weight decay leaves alone."""
    clip: Annotated[float, Field(ge=0)] = 1.0
    """Largest norm of the global gradient; 0 clips nothing."""

    @model_validator(mode="after")
    def _betas_are_rates(self) -> OptimizerSection:
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(
                f"betas: must lie in [0, 1), got {list(self.betas)}; the usual pair is [0.9, 0.95]"
            )
        return self


class ScheduleSection(Section):
    """Shape the learning rate as a pure function of the step."""

    kind: Literal["cosine", "linear", "constant"] = "cosine"
    """Shape after the warm-up; only constant has no floor."""
    warmup: Annotated[int, Field(ge=0)] = 0
    """Steps of linear rise to the peak."""
    floor: Fraction = 0.1
    """Fraction of the peak that is left at the last step."""


class DeviceLayers(Section):
    """Divide the store: the first layers on the device, the others on the host."""

    device_layers: Annotated[int, Field(ge=0)]
    """How many of the first layers keep theirs on the device."""


def _is_place(value: Any) -> Any:
    layers = value.get("device_layers") if isinstance(value, Mapping) and len(value) == 1 else None
    named = value in ("device", "host") or isinstance(value, DeviceLayers)
    if named or (type(layers) is int and layers >= 0):
        return value
    raise ValueError(
        f"must be device, host or {{device_layers: N}} with N layers on the device, got {shown(value)}; "
        "host needs the least of a GPU"
    )


Store = Annotated[Literal["device", "host"] | DeviceLayers, BeforeValidator(_is_place)]


class TrainSection(Section):
    """Set the optimizer's steps, their size in tokens and how ranks share them."""

    steps: Positive
    """Optimizer steps of the stage."""
    batch_tokens: Positive
    """Tokens an optimizer step reads, over all ranks."""
    micro_batch: Positive = 1
    """Packs that a group of sequence ranks forwards at once."""
    sequence: Positive = 1
    """Ranks that share a pack; it divides the ranks and the pack."""
    heads: Positive | None = None
    """How many of these divide the heads between them, the others the tokens; null: as many as the model's
    heads allow, with a chunk as its kv heads do."""
    chunk: Positive | None = None
    """Tokens of a pack that are in the model at once, over all its ranks; null: the whole pack."""
    store: Store = "device"
    """Where the keys and values of the other chunks wait: device, host, or {device_layers: N}, the first N
    layers on the device and the others on the host."""
    keep_attention: bool = False
    """Keep what attention gave for backward instead of running it again."""
    zero_stage: Literal[0, 1, 2, 3] = 2
    """What DeepSpeed shards over all ranks: 1 optimizer states, 2 gradients too, 3 weights too."""
    optimizer: OptimizerSection = OptimizerSection()
    learning_rate: Annotated[float, Field(gt=0)]
    """At the peak of the schedule."""
    schedule: ScheduleSection = ScheduleSection()
    checkpoint_every: Positive
    """Steps between checkpoints."""
    keep: Positive = 2
    """Checkpoints that stay; older ones are deleted."""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    """Draws a model from scratch, dropout, and the items of the evaluation."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Of weights and activations in forwards; the optimizer's are float32."""
    deterministic: bool = True
    """Only kernels that give the same numbers again."""
    gradient_checkpointing: bool = True
    """Compute each layer again in backward instead of keeping it."""
    loss_chunk: Positive = 1024
    """Tokens whose logits exist at once."""
    accept_short_documents: bool = False
    """Train although almost no query-key pair of the plan lies beyond the trained length."""
    on_non_finite: Literal["stop", "skip", "back"] = "stop"
    """What follows a loss or gradient that is no number: stop, skip the step, or go back to the last
    checkpoint and skip it on the way from there."""
    on_spike: Literal["take", "stop", "skip", "back"] = "take"
    """What follows a loss or gradient norm more than 6 sigma above the mean of the last 128 steps that the
    stage took, of which it must have taken 64: take the step, or one of the above."""
    parity_check: bool = True
    """Before a layout's first step, hold the gradients of a small copy against those of one rank."""
    kernel: Literal["auto", "sdpa", "varlen", "flex", "flash", "cudnn"] = "auto"
    """What computes attention; auto: varlen on a GPU where torch has it, else sdpa."""

    def layout(self, world: int, heads: Heads) -> Layout:
        """Arrange the ranks; with a chunk never more than the kv heads divide the heads, so that a rank keeps
        its own tokens' keys and values."""
        return Layout.of(world, self.sequence, heads, divide=self.heads, replicate=self.chunk is None)

    @model_validator(mode="after")
    def _has_masters(self) -> TrainSection:
        if self.zero_stage == 0 and self.dtype == "bfloat16":
            raise ValueError(
                "zero_stage: must be 1, 2 or 3 with dtype bfloat16, since at 0 DeepSpeed has no float32 "
                "weights for the optimizer, got 0; set 1"
            )
        return self


@dataclass(frozen=True, kw_only=True)
class Stage:
    """Hold what the loop needs of one stage; lengths in tokens."""

    model: ModelSection
    scheme: Scheme
    replace: bool
    """Replace the scheme that the model carries."""
    original_length: int | None
    """Window of the unscaled frequencies; None reads it from the model."""
    trained_length: int | None
    """Window the weights were last trained at; None reads it from the model."""
    target_length: int
    pack_length: int
    """Tokens of a training sequence."""
    train: TrainSection
    evaluate_every: int
    """Steps between evaluations; 0: none on the way."""
    numbers: Mapping[str, Any]
    """The recipe's values that decide the numbers of the run, as JSON values; which do not, says `numbers` in
    recipes/language/schema.py."""

    @cached_property
    def fingerprint(self) -> str:
        """Hash the values that matter for the numbers: sha256 in hex, equal wherever the same run is made."""
        canonical = json.dumps(self.numbers, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()


def differing(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> list[str]:
    """List the leaves in which two mappings of JSON values differ: `<key>: <ours>, not <theirs>`."""
    one, other = dict(_leaves(ours)), dict(_leaves(theirs))
    return [
        f"{key}: {_leaf(one, key)}, not {_leaf(other, key)}"
        for key in sorted(one.keys() | other.keys())
        if one.get(key, ...) != other.get(key, ...)
    ]


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
