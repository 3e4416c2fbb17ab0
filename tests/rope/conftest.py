"""Bases and tiny random models for the tests of this room."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    Gemma3TextConfig,
    LlamaConfig,
    MistralConfig,
    Phi3Config,
    Qwen2Config,
    Qwen3Config,
)

from ropewalk.rope import Base, make_scheme

CONFIGS = {
    "llama": LlamaConfig,
    "mistral": MistralConfig,
    "qwen2": Qwen2Config,
    "qwen3": Qwen3Config,
    "phi3": Phi3Config,
    "gemma3": Gemma3TextConfig,
}
OWN = {
    "mistral": {"sliding_window": None},
    "qwen3": {"head_dim": 16},
    "phi3": {"partial_rotary_factor": 0.75, "original_max_position_embeddings": 256},
    "gemma3": {
        "head_dim": 16,
        "query_pre_attn_scalar": 16,
        "sliding_window": 24,
        "layer_types": ["sliding_attention", "full_attention"],
    },
}
SHAPE = {"hidden_size": 64, "intermediate_size": 96, "num_attention_heads": 4, "num_key_value_heads": 2}
KEPT = {"num_hidden_layers": 2, "vocab_size": 64, "max_position_embeddings": 256}
TOKENS = {"bos_token_id": None, "eos_token_id": None, "pad_token_id": 0}


@pytest.fixture(scope="session")
def make_base() -> Callable[..., Base]:
    """Make a base of one window, 8 query and 2 kv heads, that carries no scheme."""

    def make(**changes: Any) -> Base:
        head_dim = changes.pop("head_dim", 64)
        length = changes.pop("original_length", 8192)
        given: dict[str, Any] = {"head_dim": head_dim, "rotary_dim": head_dim, "theta": 10000.0}
        given |= {"original_length": length, "trained_length": length, "query_heads": 8, "kv_heads": 2}
        given |= {"current": make_scheme("default")} | changes
        return Base(**given)

    return make


@pytest.fixture(scope="session")
def make_config() -> Callable[..., Any]:
    """Make the config of a tiny model; only Gemma's has a sliding window, in its first layer."""

    def make(kind: str = "llama", **changes: Any) -> Any:
        return CONFIGS[kind](**SHAPE | KEPT | TOKENS | OWN.get(kind, {}) | changes)

    return make


@pytest.fixture(scope="session")
def make_model(make_config: Callable[..., Any]) -> Callable[..., Any]:
    """Make a tiny random float32 model; the same arguments give the same weights."""

    def make(kind: str = "llama", *, config: Any = None, **changes: Any) -> Any:
        torch.manual_seed(0)
        config = make_config(kind, **changes) if config is None else config
        model = AutoModelForCausalLM.from_config(config, attn_implementation="sdpa").eval()
        for name, weight in model.named_parameters():
            # Larger than the usual 0.02, so that a wrong rotation shows in the logits.
            if weight.ndim == 2 and "embed" not in name:
                torch.nn.init.normal_(weight, std=0.15)
        return model

    return make
