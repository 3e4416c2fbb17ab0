"""A checkpoint: a Hugging Face folder with `ropewalk.json`, and the optimizer state in a folder of its own.

    checkpoints/step-000500/
        config.json  model*.safetensors  tokenizer*  ropewalk.json
        optimizer/   part-<rank>-<n>.safetensors  state.json
    latest           the name of the newest complete checkpoint

The optimizer state is per parameter and knows no layout: any world, ZeRO stage or sequence degree reads it.
"""

import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from transformers import PreTrainedModel

from ..data import Plan
from ..data.plan import differing as differing_data
from ..rope import FULL, Scheme, config_fields, installed, make_scheme
from .engine import named_parameters
from .errors import TrainError
from .mesh import Mesh
from .settings import Stage, differing
from .state import KINDS, read_state, seed_states, write_state
from .storage import (
    FORMAT,
    ShardWriter,
    atomic_folder,
    name_as_hugging_face,
    read_json,
    shard_index,
    write_json,
    write_text,
)

TOKENIZER_FILES = ("tokenizer*", "special_tokens_map.json", "vocab*", "merges.txt", "chat_template*")


@dataclass(frozen=True, kw_only=True)
class Progress:
    """Where a run stands: all that a resume needs beside weights and optimizer state."""

    step: int
    """Optimizer steps done over all stages."""
    stage: int
    stage_step: int
    """Optimizer steps done in this stage; the data position is this times the packs of a step."""
    tokens: int
    """Tokens trained on so far."""


def save_checkpoint(
    run_dir: Path, engine: Any, stage: Stage, progress: Progress, plan: Plan, mesh: Mesh
) -> Path:
    """Write the checkpoint of `progress`, point `latest` at it and drop the oldest beyond `train.keep`."""
    folder = run_dir / "checkpoints" / f"step-{progress.step:06d}"
    model = engine.module.model
    with atomic_folder(folder, mesh) as writing:
        (writing / "optimizer").mkdir(exist_ok=True)
        mesh.barrier()
        write_tensors(writing, engine, model.dtype, mesh)
        mesh.barrier()
        if mesh.is_main:
            name_as_hugging_face(writing)
            write_hugging_face_files(writing, model, stage.model.tokenizer_folder)
            write_json(writing / "ropewalk.json", description(model, stage, progress, plan))
            write_json(
                writing / "optimizer" / "state.json",
                {"format": FORMAT, "kinds": KINDS, "step": progress.step},
            )
    if mesh.is_main:
        write_text(run_dir / "latest", folder.name + "\n")
        for old in sorted(folder.parent.glob("step-*"))[: -stage.train.keep]:
            shutil.rmtree(old)
    mesh.barrier()  # no rank may read `latest` before it points here, or it would train the stage again
    return folder


def write_tensors(folder: Path, engine: Any, dtype: torch.dtype, mesh: Mesh) -> None:
    """Stream weights and optimizer state, parameter by parameter, each written by one rank in turn."""
    weights = ShardWriter(folder, f"rank-{mesh.rank:05d}")
    states = ShardWriter(folder / "optimizer", f"part-{mesh.rank:05d}")
    for number, (name, parameter) in enumerate(named_parameters(engine)):
        state = read_state(engine, parameter)
        if number % mesh.layout.world == mesh.rank:
            weights.add(name, state["fp32"].to(dtype))
            for kind, tensor in state.items():
                states.add(f"{name}.{kind}", tensor)
    weights.flush()
    states.flush()


def write_hugging_face_files(folder: Path, model: PreTrainedModel, tokenizer: Path) -> None:
    """Write config.json in both layouts, the generation config, and the tokenizer's own files.

    A scheme that no config can express stands in ropewalk.json alone; config.json then tells what the model
    carried before, which is what other readers will compute.
    """
    rope = installed(model)
    carried = rope.bases[FULL]
    told = (rope.scheme, rope.target_length)
    scheme, length = (carried.current, carried.trained_length) if rope.not_expressible else told
    config = config_fields(
        model.config.to_diff_dict()
        | {"model_type": model.config.model_type, "architectures": [type(model).__name__]},
        rope.bases,
        scheme,
        target_length=length,
    )
    config["dtype"] = str(model.dtype).removeprefix("torch.")
    write_text_json(folder / "config.json", config)
    if model.generation_config is not None:
        write_text_json(folder / "generation_config.json", model.generation_config.to_diff_dict())
    for pattern in TOKENIZER_FILES:
        for file in tokenizer.glob(pattern):
            shutil.copy(file, folder / file.name)


def write_text_json(path: Path, value: dict[str, Any]) -> None:
    import json

    write_text(path, json.dumps(value, indent=2, sort_keys=True) + "\n")


def description(model: PreTrainedModel, stage: Stage, progress: Progress, plan: Plan) -> dict[str, Any]:
    """Say what this checkpoint is, in the words and fingerprints that loading compares."""
    rope = installed(model)
    base = rope.bases[FULL]
    return {
        "format": FORMAT,
        "rope": {
            "scheme": rope.scheme.name,
            "knobs": rope.scheme.knobs,
            "theta": base.theta,
            "original_length": base.original_length,
            "target_length": rope.target_length,
            "fingerprint": rope.fingerprint,
            "not_expressible": rope.not_expressible,
        },
        "progress": asdict(progress),
        "plan": plan.fingerprint,
        "corpus": plan.corpus_fingerprint,
        "data": plan.about,
        "recipe": stage.fingerprint,
        "numbers": stage.numbers,
    }


def own_scheme(folder: Path) -> tuple[Scheme, int] | None:
    """Return the scheme and target length that only this folder's ropewalk.json can tell, if there is one."""
    if not (folder / "ropewalk.json").is_file():
        return None
    rope = read_json(folder / "ropewalk.json").get("rope", {})
    if not rope.get("not_expressible"):
        return None
    return make_scheme(rope["scheme"], **rope["knobs"]), rope["target_length"]


def latest_checkpoint(run_dir: Path) -> Path | None:
    """Return the newest complete checkpoint of a run directory."""
    pointer = run_dir / "latest"
    if not pointer.exists():
        return None
    folder = run_dir / "checkpoints" / pointer.read_text(encoding="utf-8").strip()
    if not folder.is_dir():
        raise TrainError(
            f"{pointer}: must name a checkpoint folder, got {folder.name}; write the name of one of "
            f"{[p.name for p in sorted(folder.parent.glob('step-*'))]} into it"
        )
    return folder


def read_progress(folder: Path, stages: Sequence[Stage]) -> Progress:
    """Read where a checkpoint stands; values that matter must be those of the recipe that continues it."""
    told = read_json(folder / "ropewalk.json")
    progress = Progress(**told["progress"])
    stage = stages[progress.stage]
    if told["recipe"] != stage.fingerprint:
        lines = differing(stage.numbers, told["numbers"])
        raise TrainError(
            f"{folder}: the recipe must be the one this run began with, got {'; '.join(lines)}; "
            "restore these values or choose another run_dir"
        )
    return progress


def check_same_data(folder: Path, plan: Plan) -> None:
    """Refuse to continue on other tokens than the checkpoint was trained on; say in which fields they
    differ."""
    kept = read_json(folder / "ropewalk.json")
    found = {"plan": plan.fingerprint, "corpus": plan.corpus_fingerprint}
    others = [name for name in found if kept[name] != found[name]]
    if others:
        was, now = (", ".join(f"{name} {these[name][:12]}" for name in others) for these in (kept, found))
        raise TrainError(
            f"{folder}: the prepared data must be what this run began with, {was}, got {now}"
            f"{differing_data(kept.get('data', {}), plan.about)}; "
            "restore the prepared data of this run or choose another run_dir"
        )


def load_states(engine: Any, folder: Path | None, step: int) -> None:
    """Fill the engine's masters and moments from a checkpoint, or with zero moments where there is none."""
    seed_states(engine, step)
    if folder is None:
        return
    index = shard_index(folder / "optimizer")
    for name, parameter in named_parameters(engine):
        state = {}
        for kind in KINDS:
            with safe_open(index[f"{name}.{kind}"], "pt") as file:
                state[kind] = file.get_tensor(f"{name}.{kind}")
        write_state(engine, parameter, state)
