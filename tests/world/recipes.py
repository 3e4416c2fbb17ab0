"""A small recipe of a model that need not be there, for tests of what may be written in one."""

import copy
from typing import Any

from ropewalk.recipes.language.layers import merge
from ropewalk.recipes.language.schema import Recipe, parse

CONFIG = {
    "num_hidden_layers": 1,
    "hidden_size": 64,
    "intermediate_size": 64,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "vocab_size": 128,
    "max_position_embeddings": 64,
    "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
}
VALUES: dict[str, Any] = {
    "run_dir": "runs/x",
    "target_length": 256,
    "model": {"path": "models/x", "config": CONFIG},
    "rope": {"kind": "yarn"},
    "data": {"sources": {"text": {"kind": "files", "weight": 1.0, "paths": ["corpus"]}}},
    "train": {"steps": 20, "batch_tokens": 1024, "learning_rate": 1e-3, "checkpoint_every": 10},
}


def changed(change: dict[str, Any]) -> dict[str, Any]:
    return merge(copy.deepcopy(VALUES), change)


def recipe(change: dict[str, Any] | None = None) -> Recipe:
    return parse(changed(change or {}))
