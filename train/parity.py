"""Does this layout give the gradients of one rank? Asked of a small copy of the model before the first step.

The copy has two layers at the model's own width, 1,024 tokens of vocabulary and drawn weights. A few short
packs go through it in this layout (ranks, ZeRO stage, chunks, store, kernel) and, whole, through rank 0
alone. On each rank it takes less memory than the model that is loaded next, and is gone before that. The
result is kept in parity.json beside the run, by layout and versions, so that a run asks once.
"""

from __future__ import annotations

import copy
import gc
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, PreTrainedModel

from .attention.grouped import GroupedAttention
from .attention.kernels import Kernel
from .attention.pairs import Pair
from .batch import Batches
from .engine import accumulate, full_gradients, make_engine
from .errors import TrainError
from .layout import Layout, Span
from .loss import TokenLoss
from .mesh import Mesh
from .model import config_of, for_training, install_scheme
from .release import release
from .settings import Stage, TrainSection
from .storage import read_json, write_json
from .streaming import Streaming

FILE = "parity.json"
VOCABULARY, LAYERS = 1024, 2
SIXTEEN_BIT = {"varlen", "flash", "cudnn"}
"""Kernels that take no float32."""
LIMITS = {torch.float32: 1e-5, torch.bfloat16: 5e-2}
"""Largest difference of a gradient, as a part of its parameter's largest; in bfloat16 both runs round."""
PACKAGES = ("torch", "transformers", "deepspeed", "flash-attn", "ropewalk")


@dataclass(frozen=True, kw_only=True)
class Parity:
    """The gradient that differed most, as a part of its parameter's largest, and what asking cost."""

    worst: str
    difference: float
    limit: float
    seconds: float


def check_parity(stage: Stage, mesh: Mesh, kernel: Kernel, run_dir: Path) -> Parity | None:
    """Refuse a layout whose gradients are not those of one rank; a collective of all ranks.

    Return what was measured; None where that was done before, or where one rank computes whole packs anyway.
    """
    settings = stage.train
    if not settings.parity_check or (
        mesh.layout.world == 1 and not settings.chunk and not settings.keep_attention
    ):
        return None
    key, file = _key(stage, mesh, kernel), run_dir / FILE
    kept = read_json(file)["checks"] if mesh.is_main and file.exists() else []
    if mesh.from_main(any(one["of"] == key and one["difference"] <= one["limit"] for one in kept)):
        return None
    found = mesh.from_main(_measure(stage, mesh, kernel))
    if mesh.is_main:
        write_json(file, {"format": 1, "checks": [*kept, {"of": key, **asdict(found)}]})
    if not found.difference <= found.limit:  # nor if it is no number
        raise TrainError(
            f"train: gradients of this layout ({_named(key)}) must be those of one rank to "
            f"{found.limit:g} of a parameter's largest, got {found.difference:.2g} in {found.worst}; "
            f"report it with {file}, or set train.parity_check: false to train all the same"
        )
    return found


def _key(stage: Stage, mesh: Mesh, kernel: Kernel) -> dict[str, Any]:
    """Name what may decide whether the gradients are right, as JSON values."""
    settings, layout, config = stage.train, mesh.layout, config_of(stage.model)
    given = settings.model_dump(mode="json")
    names = (
        "zero_stage",
        "chunk",
        "store",
        "keep_attention",
        "micro_batch",
        "gradient_checkpointing",
        "dtype",
    )
    width = ("model_type", "hidden_size", "num_attention_heads", "num_key_value_heads", "intermediate_size")
    return {
        "world": layout.world,
        "heads": layout.heads,
        "gather": layout.gather,
        **{name: given[name] for name in names},
        "kernel": _name(kernel),
        "device": mesh.device.type,
        "scheme": stage.scheme.name,
        "model": {name: getattr(config, name, None) for name in width},
        "versions": {name: found for name in PACKAGES if (found := _version(name))},
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _name(kernel: Kernel) -> str:
    return kernel.name if isinstance(kernel, Pair) else kernel.__name__  # type: ignore[union-attr]


def _named(key: Mapping[str, Any]) -> str:
    """Say a layout in a message, without what is off."""
    told = {name: value for name, value in key.items() if name not in ("model", "versions") and value}
    return ", ".join(f"{name} {value}" for name, value in told.items())


def _measure(stage: Stage, mesh: Mesh, kernel: Kernel) -> Parity:
    """Hold the gradients of the copy in this layout against its whole packs on the main rank."""
    began = time.perf_counter()
    settings = _small(stage.train, mesh.layout, _name(kernel))
    dtype = torch.bfloat16 if settings.dtype == "bfloat16" else torch.float32
    packs = mesh.layout.data * settings.micro_batch
    plan: Any = SmallPlan(settings.batch_tokens // packs)
    batches = Batches(plan=plan, layout=mesh.layout, packs_per_step=packs, micro_batch=settings.micro_batch)
    with torch.random.fork_rng([mesh.device] if mesh.device.type == "cuda" else []):
        module = TokenLoss(_copy(stage, settings, dtype).to(mesh.device), chunk=settings.loss_chunk)  # type: ignore[arg-type]
        wanted = _whole_packs(module, batches, kernel, mesh.device) if mesh.is_main else {}
        engine = make_engine(module, settings, accumulation=batches.accumulation)
        accumulate(engine, batches, 0, Streaming.of(settings, mesh, kernel))
        worst = _worst(engine, wanted)
        release(engine)
    del engine, module, wanted
    gc.collect()
    if mesh.device.type == "cuda":
        torch.cuda.empty_cache()
    return Parity(
        worst=worst[1], difference=worst[0], limit=LIMITS[dtype], seconds=time.perf_counter() - began
    )


def _small(settings: TrainSection, layout: Layout, kernel: str) -> TrainSection:
    """Scale a stage down to packs of five units of eight tokens a sequence rank, in chunks of two units."""
    unit = 8 * layout.sequence
    return settings.model_copy(
        update={
            "batch_tokens": 5 * unit * layout.data * settings.micro_batch,
            "chunk": None if settings.chunk is None else 2 * unit,
            "dtype": "bfloat16" if kernel in SIXTEEN_BIT else "float32",
        }
    )


def _copy(stage: Stage, settings: TrainSection, dtype: torch.dtype) -> PreTrainedModel:
    """Draw two layers of the stage's model, one of each kind that it has, and install its scheme.

    Dropout is off, since layouts draw it differently. A sliding window is narrowed to less than a pack, and
    after the scheme has seen the model's own, since it refuses one below its target.
    """
    config = copy.deepcopy(config_of(stage.model))
    kinds = getattr(config, "layer_types", None)
    if kinds:
        config.layer_types = [kinds[0], next((kind for kind in kinds if kind != kinds[0]), kinds[0])]
    config.num_hidden_layers, config.vocab_size = LAYERS, VOCABULARY
    config.bos_token_id = config.eos_token_id = config.pad_token_id = None
    for name in config.to_dict():
        if name.endswith(("dropout", "pdrop")):
            setattr(config, name, 0.0)
    torch.manual_seed(0)
    model = install_scheme(AutoModelForCausalLM.from_config(config, dtype=torch.float32), stage)
    model = for_training(model.to(dtype), gradient_checkpointing=settings.gradient_checkpointing)  # type: ignore[arg-type]
    for part in (model.config, *model.modules()):
        if getattr(part, "sliding_window", None):
            part.sliding_window = 13 * settings.sequence  # type: ignore[union-attr]
    return model


def _whole_packs(
    module: TokenLoss, batches: Batches, kernel: Kernel, device: torch.device
) -> dict[str, Tensor]:
    """Return the gradients of the token mean, in float32 on the host, of whole packs on this rank."""
    found: dict[str, Tensor] = {}
    for pack in batches.packs(0):
        batch = batches.read([pack], [(0, batches.plan.length)], device)
        attend = GroupedAttention(
            groups=batch.groups, kernel=kernel, mesh=Mesh(layout=Layout(), device=device)
        )
        module(batch.tokens, batch.positions, batch.lengths, batch.labels, attend).backward()
        for name, parameter in module.model.named_parameters():
            if parameter.grad is not None:
                part = parameter.grad.float().cpu() / batches.trained_tokens(0)
                found[name] = found[name] + part if name in found else part
        module.zero_grad()
    return found


def _worst(engine: Any, wanted: Mapping[str, Tensor]) -> tuple[float, str]:
    """Find the gradient that differs most; on the other ranks, which only take part, nothing."""
    worst = (0.0, "no parameter")
    for name, gradient in full_gradients(engine):
        if name in wanted:
            exact = wanted[name]
            off = float((gradient - exact).abs().max() / exact.abs().max().clamp(min=torch.finfo().tiny))
            worst = max(worst, (off if off == off else float("inf"), name))
    return worst


class SmallPlan:
    """Packs of random tokens, two documents in each, whose border lies elsewhere in every pack."""

    def __init__(self, length: int) -> None:
        self.length = length

    def groups(self, pack: int) -> list[Span]:
        cut = self.length * (3 + pack % 4) // 9
        return [(0, cut), (cut, self.length)]

    def extents(self, pack: int) -> list[int]:
        return [stop - start for start, stop in self.groups(pack)]

    def cost(self, pack: int) -> int:
        return sum(size**2 for size in self.extents(pack))

    def trained_tokens(self, pack: int) -> int:
        return self.length - len(self.groups(pack))

    def read(self, pack: int, start: int, stop: int) -> Pack:
        tokens = np.random.default_rng(pack).integers(VOCABULARY, size=self.length)
        labels = np.append(tokens[1:], -100)
        labels[[end - 1 for _, end in self.groups(pack)]] = -100
        positions = np.concatenate([np.arange(size) for size in self.extents(pack)])
        return Pack(*(values[start:stop] for values in (tokens, positions, labels)))


@dataclass(frozen=True)
class Pack:
    """What is read of a pack."""

    tokens: np.ndarray
    positions: np.ndarray
    labels: np.ndarray
