"""A training run on a plan in memory, for tests: its recipe, and its body on a rank, to be killed or not."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from world.faults import KilledError, faults_at
from world.packs import VOCABULARY, MemoryPlan

from ropewalk.recipes.language.schema import Recipe, parse, stages
from ropewalk.train.loop import Callbacks, StepRecord, train
from ropewalk.train.mesh import Mesh, join_world

MODEL: dict[str, Any] = {
    "model_type": "llama",
    "vocab_size": VOCABULARY,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 8,
    "tie_word_embeddings": True,
    "max_position_embeddings": 32,
    "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
}


def recipe(
    run_dir: str, tokenizer: str, *, kind: str = "yarn", path: str | None = None, **train_section: Any
) -> Recipe:
    settings = {
        "steps": 4,
        "batch_tokens": 512,
        "learning_rate": 1e-2,
        "checkpoint_every": 2,
        "loss_chunk": 24,
        "parity_check": False,  # tests/train/test_parity.py asks for it
    }
    return parse(
        {
            "run_dir": run_dir,
            "target_length": 64,
            "model": {"path": path, "config": None if path else MODEL, "tokenizer": tokenizer},
            "rope": {"kind": kind},
            "data": {"sources": {"text": {"kind": "files", "paths": ["."], "weight": 1.0}}},
            "train": settings | {"schedule": {"kind": "cosine", "warmup": 1}} | train_section,
        }
    )


def run(
    run_dir: str,
    tokenizer: str,
    kill_after: int,
    settings: dict[str, Any],
    plan: MemoryPlan,
    faults: dict[int, str] | None = None,
    parts: Sequence[dict[str, Any]] = (),
) -> str | None:
    """Train to the end or to a kill after a step; return the last checkpoint.

    `faults` spoil steps of each stage; the stages are `parts` where there are some.
    """
    join_world()

    def on_step(record: StepRecord, total: int) -> None:
        if record.step == kill_after:
            raise KilledError

    asked = recipe(run_dir, tokenizer, **settings)
    if parts:
        asked = asked.model_copy(update={"stages": list(parts)})
    wanted = [stage.stage for stage in stages(asked)]
    plans: Any = [plan] * len(wanted)
    Path(run_dir).mkdir(exist_ok=True)
    try:
        with faults_at(faults or {}):
            return str(train(wanted, plans, Mesh.of_world(), Path(run_dir), Callbacks(on_step=on_step)))
    except KilledError:
        return None
