"""Turn a checkpoint into a Hugging Face folder that all read alike, and prove it before it gets its name."""

import math
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoConfig, PreTrainedModel

from ...rope import FULL, Frequencies, Rotary, install, installed, make_scheme
from ...rope.analysis import angle_error, frequency_error, scale_error
from ...rope.engines import missing_weights, read_texts, tokenizer_faults, verify_folder, weight_problems
from ...rope.engines.faults import inexpressible
from ...rope.engines.weights import read_weights
from ...rope.folder import fetching
from ..checkpoint import tokenizer_files
from ..errors import TrainError
from ..loss import hidden_states
from ..mesh import Mesh
from ..model import DTYPES, load_model
from ..progress import latest_checkpoint, read_provenance
from ..shards import ShardWriter, atomic_folder, name_as_hugging_face, read_tensor, shard_index
from ..storage import write_json

TOLERANCE = 1e-4
"""Largest difference of float32 logits between plain transformers on the result and ropewalk on the source,
both at the reader's angles."""
FREQUENCY_TOLERANCE = 1e-5
"""Largest relative difference of an inverse frequency or the attention scale as transformers reads them."""
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
    check_source(folder)
    if target.exists():
        raise TrainError(
            f"{target}: must not exist yet, got a {'folder' if target.is_dir() else 'file'}; name a new one"
        )
    with atomic_folder(target, Mesh.alone()) as writing:
        names = copy_weights(folder, writing, DTYPES[dtype] if dtype else None)
        copy_texts(folder, writing, dtype)
        if faults := verify_folder(writing).faults:
            raise TrainError(
                "\n".join([f"{target}: must be right for every reader; nothing was written, got:", *faults])
            )
        report = verify_against(folder, writing, names)
        if not report.verified:
            raise TrainError(
                f"{target}: the export must compute what was trained, got logits "
                f"{report.max_logit_difference:.2e} apart and {report.checks}; nothing was written, restore "
                "the checkpoint's own config.json"
            )
    return replace(report, folder=str(target))


def checkpoint_of(source: Path) -> Path:
    """Accept a checkpoint, or a run directory for its newest one."""
    if (source / "ropewalk.json").is_file() and (source / "config.json").is_file():
        return source
    folder = latest_checkpoint(source) if source.is_dir() else None
    if folder is None:
        raise TrainError(
            f"{source}: must be a checkpoint or a run directory, got "
            f"{'a folder without ropewalk.json and latest' if source.is_dir() else 'no folder'}; "
            f"name run_dir/checkpoints/step-N{fetching(source)}"
        )
    return folder


def check_source(folder: Path) -> None:
    """Refuse, before anything is loaded, what cannot be converted."""
    texts = read_texts(folder)
    weights = [*missing_weights(folder), *weight_problems(folder)]
    problems = [*texts.faults()] or [*inexpressible(texts.ours), *weights, *tokenizer_faults(folder)]
    if pickles := read_weights(folder).pickles:
        problems.append(
            f"weights: must be safetensors, got {', '.join(pickles)}, which only unpickling reads; save the "
            "model with transformers, which writes safetensors"
        )
    if problems:
        raise TrainError("\n".join(f"{folder}: {problem}" for problem in problems))


def copy_weights(source: Path, target: Path, dtype: torch.dtype | None) -> list[str]:
    """Stream the weights, one tensor in memory at a time beyond the open shard."""
    writer = ShardWriter(target, "weights")
    names = []
    for name, tensor in tensors(source):
        if not tensor.isfinite().all():
            raise TrainError(
                f"{source}: every weight must be a finite number, got NaN or infinity in {name}; take an "
                "earlier checkpoint"
            )
        writer.add(name, tensor.to(dtype or tensor.dtype))
        names.append(name)
    writer.flush()
    name_as_hugging_face(target)
    return names


def tensors(folder: Path) -> Iterator[tuple[str, Tensor]]:
    index = shard_index(folder)
    for name in index:
        yield name, read_tensor(index, name)


def copy_texts(source: Path, target: Path, dtype: str | None) -> None:
    """Copy config, tokenizer and provenance; what may cut prompts or answers learns the window."""
    about = read_provenance(source)
    texts, window = read_texts(source), about["rope"]["target_length"]
    config = {**texts.config, "dtype": dtype} if dtype else texts.config
    write_json(target / "config.json", config, sort_keys=True)
    for file in tokenizer_files(source):
        shutil.copy(file, target / file.name)
    if texts.tokenizer is not None:
        values = {**texts.tokenizer, "model_max_length": window}
        write_json(target / "tokenizer_config.json", values, sort_keys=True)
    if texts.generation is not None:
        longest = {"max_length": window} if "max_length" in texts.generation else {}
        write_json(target / "generation_config.json", {**texts.generation, **longest}, sort_keys=True)
    write_json(target / "ropewalk.json", about)


@torch.no_grad()
def verify_against(source: Path, target: Path, names: list[str]) -> ConvertReport:
    """Compare plain transformers on `target` with ropewalk on `source`, both in float32.

    Readers compute angles in float32, which drift with the position by themselves and not by the export. So
    logits are compared at the reader's own angles, its frequencies with the trained ones; its drift is told.
    """
    rope = read_provenance(source)["rope"]
    scheme = make_scheme(rope["scheme"], **rope["knobs"])
    lengths = {"target_length": rope["target_length"], "original_length": rope["original_length"]}
    # The source first: what cannot be loaded is named by the folder that the user knows.
    source_model = load_model(source, config=before_scheme(source, rope["theta"]))
    stock = load_model(target).eval()
    ours = install(source_model.eval(), scheme, replace=True, **lengths)
    length = min(rope["target_length"], PROBE_TOKENS)
    tokens = torch.randint(stock.config.vocab_size, (1, length), generator=torch.Generator().manual_seed(0))
    wanted = stock(tokens, use_cache=False).logits
    drift = (wanted - logits(ours, tokens)).abs().max().item()
    # After the forward: transformers chooses by its length where the scheme depends on it.
    layer_types = installed(ours).bases
    read = {layer_type: read_frequencies(stock, layer_type) for layer_type in layer_types}
    trained = {layer_type: installed(ours).at_length(layer_type, length) for layer_type in layer_types}
    pairs = [(read[layer_type], trained[layer_type]) for layer_type in layer_types]
    errors = [max(frequency_error(*pair), scale_error(*pair)) for pair in pairs]
    rotate_by(ours, {name: Rotary(told, angles_in=torch.float32) for name, told in read.items()})
    difference = (wanted - logits(ours, tokens)).abs().max().item()
    checks = {
        "tensors": len(names),
        "empty_tensors": sum(tensor.numel() == 0 for _, tensor in tensors(target)),
        "window": stock.config.max_position_embeddings,
        "trained_frequencies": installed(ours).fingerprint == rope["fingerprint"],
        "frequency_error": max(errors),
        "attention_scale": read[FULL].attention_scale,
        "angle_error_at_window": angle_error(read[FULL], trained[FULL], rope["target_length"]),
        "drift_of_float32_angles": drift,
        "probe_tokens": length,
    }
    cast = next(tensors(target))[1].dtype != next(tensors(source))[1].dtype
    sound = (
        checks["empty_tensors"] == 0
        and checks["window"] == scheme.hf_window(layer_types[FULL], target_length=rope["target_length"])
        and checks["trained_frequencies"]
        and checks["frequency_error"] <= FREQUENCY_TOLERANCE
    )
    return ConvertReport(
        folder=str(target),
        verified=bool(sound and math.isfinite(difference) and (cast or difference <= TOLERANCE)),
        max_logit_difference=difference,
        checks=checks,
    )


def before_scheme(folder: Path, theta: float) -> Any:
    """Give a checkpoint's config with the theta before its scheme, of which `ntk` and `abf` make another."""
    config = AutoConfig.from_pretrained(folder, local_files_only=True)
    config.rope_parameters.get(FULL, config.rope_parameters)["rope_theta"] = theta
    return config


def logits(model: PreTrainedModel, tokens: Tensor) -> Tensor:
    positions = torch.arange(tokens.shape[1])[None]
    return model.lm_head(hidden_states(model, tokens, positions, None, None))


def rotate_by(model: PreTrainedModel, rotaries: dict[str, Rotary]) -> None:
    for module in model.modules():
        if hasattr(module, "rotary"):
            kind = getattr(module, "layer_type", None)
            module.rotary = rotaries[kind if kind in rotaries else FULL]  # type: ignore[assignment,index]


def read_frequencies(stock: PreTrainedModel, layer_type: str) -> Frequencies:
    """Take the frequencies that transformers itself made of the exported config, as they are now."""
    rotation = stock.base_model.rotary_emb
    prefix = f"{layer_type}_" if hasattr(rotation, f"{layer_type}_inv_freq") else ""
    return Frequencies(
        inv_freq=getattr(rotation, f"{prefix}inv_freq").double().numpy()[None],
        attention_scale=float(getattr(rotation, f"{prefix}attention_scaling")),
    )
