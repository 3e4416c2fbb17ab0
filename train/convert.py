"""Turn a checkpoint into a Hugging Face folder that others read alike, and prove it before it gets its name."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM

from ..rope import Frequencies, install, installed, make_scheme, read_base
from .checkpoint import TOKENIZER_FILES, latest_checkpoint, write_text_json
from .errors import TrainError
from .loss import hidden_states
from .mesh import Mesh
from .model import DTYPES, load_model
from .storage import (
    ShardWriter,
    atomic_folder,
    name_as_hugging_face,
    read_json,
    shard_index,
    write_json,
)

TOLERANCE = 1e-4
"""Largest difference of float32 logits between plain transformers on the result and ropewalk on the source."""
FREQUENCY_TOLERANCE = 1e-9
"""Largest relative difference of any inverse frequency, or of the attention scale, as the config tells them."""
PROBE_TOKENS = 2048


@dataclass(frozen=True, kw_only=True)
class ConvertReport:
    """What was written and what was checked on it; `checks` maps a name to the value that was found."""

    folder: str
    verified: bool
    max_logit_difference: float
    checks: dict[str, Any] = field(default_factory=dict)


def convert(source: Path, target: Path, *, dtype: str | None = None) -> ConvertReport:
    """Write the Hugging Face form of a checkpoint (or of a run's newest one) into the new folder `target`.

    `dtype` casts the weights. The folder appears only after its checks have passed.
    """
    folder = checkpoint_of(source)
    if target.exists():
        raise TrainError(f"{target}: must not exist yet, got a {'folder' if target.is_dir() else 'file'}; name a new one")
    with atomic_folder(target, Mesh.alone()) as writing:
        names = copy_weights(folder, writing, DTYPES[dtype] if dtype else None)
        copy_texts(folder, writing, dtype)
        report = verify_against(folder, writing, names)
        if not report.verified:
            raise TrainError(
                f"{target}: the logits must agree within {TOLERANCE}, got {report.max_logit_difference:.2e}; "
                f"nothing was written, checks: {report.checks}"
            )
    return ConvertReport(**vars(report) | {"folder": str(target)})


def checkpoint_of(source: Path) -> Path:
    """Accept a checkpoint, or a run directory for its newest one."""
    if (source / "ropewalk.json").is_file() and (source / "config.json").is_file():
        return source
    folder = latest_checkpoint(source) if source.is_dir() else None
    if folder is None:
        raise TrainError(
            f"{source}: must be a checkpoint or a run directory, got "
            f"{'a folder without ropewalk.json and latest' if source.is_dir() else 'no folder'}; "
            "name run_dir/checkpoints/step-N"
        )
    return folder


def copy_weights(source: Path, target: Path, dtype: torch.dtype | None) -> list[str]:
    """Stream the weights, one tensor in memory at a time beyond the open shard."""
    writer = ShardWriter(target, "weights")
    names = []
    for name, tensor in tensors(source):
        writer.add(name, tensor.to(dtype or tensor.dtype))
        names.append(name)
    writer.flush()
    name_as_hugging_face(target)
    return names


def tensors(folder: Path) -> Iterator[tuple[str, Tensor]]:
    for name, path in shard_index(folder).items():
        with safe_open(path, "pt") as file:
            yield name, file.get_tensor(name)


def copy_texts(source: Path, target: Path, dtype: str | None) -> None:
    """Copy config, tokenizer and provenance; the tokenizer learns the window too, or it would cut prompts."""
    import json

    told = read_json(source / "ropewalk.json")
    config = json.loads((source / "config.json").read_text(encoding="utf-8"))
    if dtype:
        config["dtype"] = dtype
    write_text_json(target / "config.json", config)
    for pattern in (*TOKENIZER_FILES, "generation_config.json"):
        for file in source.glob(pattern):
            shutil.copy(file, target / file.name)
    settings = target / "tokenizer_config.json"
    if settings.exists():
        values = json.loads(settings.read_text(encoding="utf-8"))
        values["model_max_length"] = told["rope"]["target_length"]
        write_text_json(settings, values)
    write_json(target / "ropewalk.json", told)


@torch.no_grad()
def verify_against(source: Path, target: Path, names: list[str]) -> ConvertReport:
    """Compare plain transformers on `target` with ropewalk's exact rotation on `source`, both in float32."""
    told = read_json(source / "ropewalk.json")
    rope = told["rope"]
    config = AutoConfig.from_pretrained(target, local_files_only=True)
    base = next(iter(read_base(config, original_length=rope["original_length"]).values()))
    exported = base.current.frequencies(base, target_length=rope["target_length"])
    stock = AutoModelForCausalLM.from_pretrained(target, dtype=torch.float32, local_files_only=True).eval()
    ours = install(
        load_model(source).eval(),
        make_scheme(rope["scheme"], **rope["knobs"]),
        target_length=rope["target_length"],
        original_length=rope["original_length"],
        replace=True,
    )
    length = min(rope["target_length"], PROBE_TOKENS)
    tokens = torch.randint(config.vocab_size, (1, length), generator=torch.Generator().manual_seed(0))
    positions = torch.arange(length)[None]
    hidden = hidden_states(ours, tokens, positions, None)
    difference = (stock(tokens, use_cache=False).logits - ours.lm_head(hidden)).abs().max().item()
    cast = next(tensors(target))[1].dtype != next(tensors(source))[1].dtype
    checks = {
        "tensors": len(names),
        "empty_tensors": sum(tensor.numel() == 0 for _, tensor in tensors(target)),
        "theta": base.theta,
        "scheme_read": base.current.name,
        "frequency_error": frequency_error(exported, next(iter(installed(ours).frequencies.values()))),
        "stretch": exported.stretch(base),
        "window": config.max_position_embeddings,
        "probe_tokens": length,
        "dtype": str(config.dtype).removeprefix("torch."),
    }
    sound = (
        checks["empty_tensors"] == 0
        and checks["window"] == rope["target_length"]
        and checks["frequency_error"] <= FREQUENCY_TOLERANCE
    )
    return ConvertReport(
        folder=str(target),
        verified=bool(sound and (cast or difference <= TOLERANCE)),
        max_logit_difference=difference,
        checks=checks,
    )


def frequency_error(told: Frequencies, trained: Frequencies) -> float:
    """Return the largest relative difference between two sets of frequencies, attention scale included."""
    steps = (told.inv_freq / trained.inv_freq - 1).abs().max().item()
    return max(steps, abs(told.attention_scale / trained.attention_scale - 1))
