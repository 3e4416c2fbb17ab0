"""A checkpoint: a Hugging Face folder with `ropewalk.json`, and the optimizer state in a folder of its own.

    checkpoints/step-000500/
        config.json  model*.safetensors  tokenizer*  ropewalk.json
        optimizer/   part-<rank>-<n>.safetensors  state.json
    latest           the name of the newest complete checkpoint

The optimizer state is per parameter and knows no layout: any world, ZeRO stage or sequence degree reads it.
A folder is complete or absent (`shards.atomic_folder`), `latest` is replaced in one step (`storage.py`).
A resume compares `Stage.numbers`, which come from `numbers` in recipes/language/schema.py.
"""

import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from ..data import Plan
from ..rope import FULL, Scheme, config_fields, installed, make_scheme
from ..rope.engines.texts import our_faults
from .errors import TrainError
from .mesh import Mesh
from .settings import Stage, differing
from .shards import atomic_folder, name_as_hugging_face
from .state import KINDS, write_tensors
from .storage import FORMAT, read_json, write_json, write_text

TOKENIZER_FILES = ("tokenizer*", "special_tokens_map.json", "vocab*", "merges.txt", "chat_template*")


@dataclass(frozen=True, kw_only=True)
class Progress:
    """Where a run stands: all that a resume needs beside weights and optimizer state."""

    step: int = 0
    """Optimizer steps done over all stages."""
    stage: int = 0
    stage_step: int = 0
    """Optimizer steps done in this stage; the data position is this times the packs of a step."""
    tokens: int = 0
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
            states = {"format": FORMAT, "kinds": KINDS, "step": progress.step}
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
    for pattern in TOKENIZER_FILES:
        for file in tokenizer.glob(pattern):
            shutil.copy(file, folder / file.name)


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


def read_provenance(folder: Path, *needed: str) -> dict[str, Any]:
    """Read what a checkpoint says of itself: its rope, and what else is needed."""
    about = read_json(folder / "ropewalk.json")
    faults = list(our_faults(about))
    if missing := [key for key in needed if key not in about]:
        faults.append(f"ropewalk.json: must say {', '.join(missing)}, got nothing of it; take the run's own")
    if faults:
        raise TrainError("\n".join(f"{folder}: {fault}" for fault in faults))
    return about


def own_scheme(folder: Path) -> tuple[Scheme, int] | None:
    """Return the scheme and target length that only this folder's ropewalk.json can tell, if there is one."""
    if not (folder / "ropewalk.json").exists():
        return None
    rope = read_provenance(folder)["rope"]
    if not rope.get("not_expressible"):
        return None
    return make_scheme(rope["scheme"], **rope["knobs"]), rope["target_length"]


def latest_checkpoint(run_dir: Path) -> Path | None:
    """Return the newest complete checkpoint of a run directory."""
    pointer = run_dir / "latest"
    if not pointer.is_file():
        return None
    kept, name = run_dir / "checkpoints", pointer.read_text(encoding="utf-8", errors="replace").strip()
    folder = kept / name
    if not name or not folder.is_dir():
        raise TrainError(
            f"{pointer}: must name a checkpoint folder, got {name or 'nothing'}; write the name of one of "
            f"{[p.name for p in sorted(kept.glob('step-*'))]} into it"
        )
    return folder


def read_progress(folder: Path, stages: Sequence[Stage]) -> Progress:
    """Read where a checkpoint stands; values that matter must be those of the recipe that continues it."""
    kept = read_provenance(folder, "progress", "recipe", "numbers")
    progress = Progress(**kept["progress"])
    if progress.stage >= len(stages):
        raise TrainError(
            f"{folder}: the recipe must have the stages this run began with, at least {progress.stage + 1}, "
            f"got {len(stages)}; restore them or choose another run_dir"
        )
    stage = stages[progress.stage]
    if kept["recipe"] != stage.fingerprint:
        lines = differing(stage.numbers, kept["numbers"])
        raise TrainError(
            f"{folder}: the recipe must be the one this run began with, got {'; '.join(lines)}; "
            "restore these values or choose another run_dir"
        )
    return progress


def check_same_data(folder: Path, plan: Plan) -> None:
    """Refuse to continue on other tokens than the checkpoint was trained on; say which fields differ."""
    kept = read_provenance(folder, "plan", "corpus")
    prints = {"plan": plan.fingerprint, "corpus": plan.corpus_fingerprint}
    others = [name for name in prints if kept[name] != prints[name]]
    if others:
        was, now = (", ".join(f"{name} {these[name][:12]}" for name in others) for these in (kept, prints))
        lines = "".join(f", {line}" for line in differing(plan.about, kept.get("data", {})))
        raise TrainError(
            f"{folder}: the prepared data must be what this run began with, {was}, got {now}{lines}; "
            "restore the prepared data of this run or choose another run_dir"
        )
