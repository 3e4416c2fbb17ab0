"""A checkpoint: a Hugging Face folder with `ropewalk.json`, and the optimizer state in a folder of its own.

    checkpoints/step-000500/
        config.json  model*.safetensors  tokenizer*  ropewalk.json
        optimizer/   part-<rank>-<n>.safetensors  state.json
    latest           the name of the newest complete checkpoint

The optimizer state is per parameter and knows no layout: any world, ZeRO stage or sequence degree reads it.
A folder is complete or absent (`shards.atomic_folder`), `latest` is replaced in one step (`storage.py`).
What is read of it again without torch is in progress.py.
"""

import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from ..data import Plan
from ..rope import FULL, config_fields, installed
from .mesh import Mesh
from .progress import Progress
from .settings import Stage
from .shards import atomic_folder, name_as_hugging_face
from .state import KINDS, write_tensors
from .storage import FORMAT, write_json, write_text

TOKENIZER_FILES = ("tokenizer*", "special_tokens_map.json", "vocab*", "merges.txt", "chat_template*")


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
            states = {"format": FORMAT, "kinds": KINDS, "step": progress.updates}
            write_json(writing / "optimizer" / "state.json", states)
    if mesh.is_main:
        write_text(run_dir / "latest", folder.name + "\n")
        drop_old(folder, keep=stage.train.keep)
    mesh.barrier()  # no rank may read `latest` before it points here, or it would train the stage again
    return folder


def drop_old(newest: Path, *, keep: int) -> None:
    """Delete the checkpoints of the lowest steps until `keep` are left, never the one just written.

    Later steps may stand beside it, of a run that was killed before `latest` named them.
    """
    others = sorted(folder for folder in newest.parent.glob("step-*") if folder != newest)
    for old in others[: max(0, len(others) + 1 - keep)]:
        shutil.rmtree(old)


def write_hugging_face_files(folder: Path, model: PreTrainedModel, tokenizer: Path) -> None:
    """Write config.json in both layouts, the generation config, and the tokenizer's own files.

    A scheme that no config can express stands in ropewalk.json alone; config.json then tells what the model
    carried before, which is what other readers will compute.
    """
    rope = installed(model)
    scheme, length = rope.scheme, rope.target_length
    if rope.not_expressible:
        scheme, length = rope.bases[FULL].current, rope.bases[FULL].trained_length
    config = config_fields(
        model.config.to_diff_dict()
        | {"model_type": model.config.model_type, "architectures": [type(model).__name__]},
        rope.bases,
        scheme,
        target_length=length,
    )
    config["dtype"] = str(model.dtype).removeprefix("torch.")
    write_json(folder / "config.json", config, sort_keys=True)
    if model.generation_config is not None:
        generation = model.generation_config.to_diff_dict()
        write_json(folder / "generation_config.json", generation, sort_keys=True)
    for file in tokenizer_files(tokenizer):
        shutil.copy(file, folder / file.name)


def tokenizer_files(folder: Path) -> list[Path]:
    """List the files of a tokenizer; a folder may be called like one."""
    return [file for pattern in TOKENIZER_FILES for file in folder.glob(pattern) if file.is_file()]


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
