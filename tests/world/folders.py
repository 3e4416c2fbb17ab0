"""Folders of texts, healthy ones and such as a run writes, for the tests of readers and of faults."""

import json
from pathlib import Path
from typing import Any

from ropewalk.rope import Installed, config_fields, make_scheme, read_base

HEADS = {"hidden_size": 256, "num_attention_heads": 4, "num_key_value_heads": 2}
LLAMA: dict[str, Any] = {"model_type": "llama", "max_position_embeddings": 2048, "rope_theta": 5e5, **HEADS}
ORIGINAL = {"original_max_position_embeddings": 512}
YARN = {"rope_type": "yarn", "factor": 4.0, **ORIGINAL}
LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
DIVISORS = [1 + pair / 4 for pair in range(32)]
LONG = {"rope_type": "longrope", "factor": 4.0, "short_factor": DIVISORS, "long_factor": DIVISORS, **ORIGINAL}
LINEAR8 = {"rope_type": "linear", "factor": 8.0}


def scaled(stated: Any, **more: Any) -> dict[str, Any]:
    return LLAMA | {"rope_scaling": stated} | more


def write(
    folder: Path, config: dict[str, Any], tokenizer: Any = None, ours: Any = None, generation: Any = None
) -> Path:
    files = {"config.json": config, "tokenizer_config.json": tokenizer, "ropewalk.json": ours}
    files |= {"generation_config.json": generation}
    for name, values in files.items():
        if values is not None:
            (folder / name).write_text(json.dumps(values))
    return folder


def trained(name: str, target_length: int, **knobs: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return config.json and ropewalk.json as a run writes them."""
    bases, scheme = read_base(LLAMA), make_scheme(name, **knobs)
    base = bases["full_attention"]
    frequencies = {"full_attention": scheme.frequencies(base, target_length=target_length)}
    installed = Installed(scheme=scheme, target_length=target_length, bases=bases, frequencies=frequencies)
    rope = {"scheme": name, "knobs": json.loads(json.dumps(scheme.knobs)), "theta": base.theta}
    rope |= {"original_length": base.original_length, "target_length": target_length}
    written = config_fields(LLAMA, bases, scheme, target_length=target_length)
    return written, {"format": 1, "rope": rope | {"fingerprint": installed.fingerprint}}


HEALTHY = {
    "llama 2": {key: value for key, value in LLAMA.items() if key != "rope_theta"},
    "llama 3.1": scaled(
        LLAMA3 | {"original_max_position_embeddings": 8192}, max_position_embeddings=131072
    ),
    "qwen 3 with yarn": scaled(YARN, model_type="qwen3", head_dim=64),
    "gemma 3": scaled(
        LINEAR8, model_type="gemma3_text", head_dim=64, num_hidden_layers=6, sliding_window=64,
        rope_local_base_freq=1e4,
    ),
}  # fmt: skip
