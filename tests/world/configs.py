"""Configs as the Hub has them, of the families that are handled."""

from typing import Any

HEADS = {"hidden_size": 4096, "num_attention_heads": 32, "num_key_value_heads": 8}
LLAMA: dict[str, Any] = {"model_type": "llama", "max_position_embeddings": 8192, "rope_theta": 5e5, **HEADS}
LLAMA3 = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "rope_type": "llama3"}
LLAMA31 = LLAMA | {
    "max_position_embeddings": 131072,
    "rope_scaling": LLAMA3 | {"original_max_position_embeddings": 8192},
}
YARN = {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}
QWEN3 = {
    "model_type": "qwen3",
    "max_position_embeddings": 131072,
    "rope_theta": 1e6,
    "head_dim": 128,
    **HEADS,
}

CHUNKS = {"chunk_size": 262144, "local_size": 8192, "original_max_position_embeddings": 262144}
QWEN1M = HEADS | {"model_type": "qwen2", "max_position_embeddings": 1010000, "rope_theta": 1e7}
QWEN1M |= {"sliding_window": 1010000, "use_sliding_window": False, "dual_chunk_attention_config": CHUNKS}


def in_chunks(**changes: Any) -> dict[str, Any]:
    return QWEN1M | {"dual_chunk_attention_config": CHUNKS | changes}


def without(*keys: str, **changes: Any) -> dict[str, Any]:
    return {key: value for key, value in LLAMA.items() if key not in keys} | changes


V5 = {"rope_type": "default", "rope_theta": 1e4}
TWO_KINDS = {
    "full_attention": {"rope_type": "default", "rope_theta": 1e6},
    "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
}
GEMMA = without("rope_theta", model_type="gemma3_text", head_dim=256, rope_parameters=TWO_KINDS)

SU = {"type": "su", "short_factor": [1.0] * 64, "long_factor": [4.0] * 64}
PHI3 = without(model_type="phi3", rope_theta=1e4, max_position_embeddings=131072)
