"""Which models do we handle, and what does a config of each leave unsaid?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .scheme import RopeError

SUPPORTED = ("gemma3_text", "llama", "mistral", "phi3", "qwen2", "qwen3")
PARTIAL = ("phi3",)
"model types whose attention turns only a part of each head where the config says so"
ONLY_LONGROPE = ("phi3",)
"model types whose config class takes no scaling but longrope"
FULL, SLIDING = "full_attention", "sliding_attention"
DEFAULT_THETA = {("llama", FULL): 1e4, ("gemma3_text", FULL): 1e6, ("gemma3_text", SLIDING): 1e4}
"theta that is meant where none is stated: Llama's configs from before the key, and those of Gemma 3"
BY_LAYER_TYPE = ("gemma3_text",)
"model types whose config class keeps rope parameters by layer type, and only so"
DECLARE_LAYER_TYPES = ("qwen2", "qwen3")
"model types whose config class always has layer types, so that it finds rope parameters under them too"
OLDER_TYPES = {("phi3", "su"): "longrope", ("phi3", "yarn"): "longrope"}
"kinds of scaling that a config class calls by another name"
DEFAULT_ORIGINAL = {"phi3": 4096}
"original length that a config class gives a scaled model without one"
PRETRAINED = {
    ("gemma3_text", 131072, 8.0): (32768, "what Gemma 3 was pretrained at, 2503.19786, section 5.3"),
    ("qwen2", 32768, 4.0): (32768, "what Qwen2.5's model cards state"),
    ("qwen3", 32768, 4.0): (32768, "what Qwen3's model cards state"),
}
"original lengths that were published, by model type, window and factor of configs that may leave them out"
LEFT_OUT = {
    "gemma3_text": {
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "head_dim": 256,
        "max_position_embeddings": 131072,
    },
}
"what a config class says where published configs, such as Gemma-3-4B's, leave it out"
SWITCHED = ("qwen2", "qwen3")
"model types that slide only where `use_sliding_window` is on"
DEFAULT_WINDOW = {"mistral": 4096, "gemma3_text": 4096}
"sliding window that transformers gives a config without one"

_REASONS = {
    "soft-caps its attention scores, which our attention does not": ("gemma2",),
    "uses latent attention, whose rotary part is a separate key": ("deepseek_v2", "deepseek_v3", "minicpm3"),
    "sees images too: install on its language model": ("gemma3",),
    "has layers that are no attention": (
        *("bamba", "falcon_h1", "falcon_mamba", "granitemoehybrid", "jamba", "kimi_linear", "lfm2", "mamba"),
        *("mamba2", "minimax", "nemotron_h", "qwen3_next", "recurrent_gemma", "rwkv", "zamba", "zamba2"),
    ),
    "has no rotary position encoding": ("bert", "bloom", "gpt2", "gpt_bigcode", "gpt_neo", "mpt", "opt"),
}
REFUSED = {model_type: reason for reason, names in _REASONS.items() for model_type in names}


def completed(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return fields with what the config class says of those that published configs leave out."""
    return {**LEFT_OUT.get(str(fields.get("model_type")), {}), **fields}


def check_supported(fields: Mapping[str, Any]) -> None:
    """Refuse, by name and reason, every kind of model whose attention we would get wrong."""
    model_type = fields.get("model_type")
    if model_type not in SUPPORTED:
        reason = REFUSED.get(str(model_type), "is not supported yet")
        raise RopeError(
            f"config.model_type: must be one of {', '.join(SUPPORTED)}, got {model_type!r}, which {reason}; "
            "use a model of a supported type"
        )


def windows(fields: Mapping[str, Any], trained_length: int) -> dict[str, int | None]:
    """Return the sliding window of each layer type, tokens; None attends to the whole sequence."""
    model_type = str(fields["model_type"])
    slides = model_type not in SWITCHED or fields.get("use_sliding_window")
    window = fields.get("sliding_window", DEFAULT_WINDOW.get(model_type)) if slides else None
    kinds = (FULL, SLIDING) if model_type in BY_LAYER_TYPE else (FULL,)
    if others := sorted(set(fields.get("layer_types") or ()).difference(kinds)):
        raise RopeError(
            f"config.layer_types: must be {' or '.join(kinds)} for every layer of {model_type}, got "
            f"{', '.join(others)}, which no scheme extends; use a model without such layers"
        )
    if model_type in BY_LAYER_TYPE:
        return {FULL: None, SLIDING: whole({"sliding_window": window}, "sliding_window")}
    if window is not None and window < trained_length:
        raise RopeError(
            f"config.sliding_window: every layer of {model_type} must attend to the whole window of "
            f"{trained_length} tokens, got {window}, which no scheme extends; set sliding_window to null if "
            "the model was trained without it"
        )
    return {FULL: window}


def heads(fields: Mapping[str, Any]) -> tuple[int, int, int]:
    """Return query heads, kv heads and head_dim, by each model type's own rule for what may be left out."""
    count = whole(fields, "num_attention_heads")
    old = fields["model_type"] in ("llama", "phi3") and fields.get("num_key_value_heads") is None
    kv_heads = count if old else whole(fields, "num_key_value_heads")
    # Transformers would take 128 for Qwen3, 256 for Gemma 3 and the quotient elsewhere.
    stated = fields.get("head_dim") is not None or fields["model_type"] in ("qwen3", "gemma3_text")
    head_dim = whole(fields, "head_dim") if stated else whole(fields, "hidden_size") // count
    return count, kv_heads, head_dim


def whole(fields: Mapping[str, Any], key: str) -> int:
    """Return a whole number that every config must state."""
    value = fields.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise RopeError(
            f"config.{key}: must be a whole number of at least 1, got {value!r}; complete the config"
        )
    return value
