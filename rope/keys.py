"""Which keys of a config change attention, and may one be there that is not read here?

A model's own config class drops keys it does not know without a word, and so would we: a Llama's config with
`no_rope_layers` would run as if all its layers turned. A public config has hundreds of other keys that mean
nothing here, so a key counts only where its name speaks of attention or position. Checked against the config
classes of transformers 4.57 and 5.24.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from .families import FULL, SLIDING, whole
from .scheme import RopeError

DUAL_CHUNK = "dual_chunk_attention_config"
"Qwen's dual chunk attention, which stands at the top level and not among the rope's parameters"

WORDS = frozenset({
    *("att", "attention", "attentions", "attn", "kv", "qk", "qkv", "bidirectional", "causal"),
    *("alibi", "cope", "nope", "rotary", "rotate", "xpos", "pos", "position", "positional", "positions"),
    *("cap", "logn", "mscale", "ntk", "scalar", "scale", "scaling", "softcap", "softcapping", "yarn"),
    *("chunk", "chunked", "chunks", "sink", "sinks", "sliding", "swa", "window", "windows"),
    *("block", "cla", "dca", "gate", "hybrid", "mamba", "mem", "mixer", "mla", "moba", "nsa", "sparse"),
    *("encoder", "heads", "interleaved", "mask", "pe", "prefix", "q", "rot", "softmax", "ssm", "ssmax", "v"),
})  # fmt: skip
"what a name speaks of that changes attention; any word that ends in `rope` too"
HOW = frozenset({
    *("backend", "cache", "efficient", "flash", "fp32", "fused", "fusion", "impl", "implementation", "sdpa"),
    *("dropout", "id", "loss", "pdrop", "quant", "quantize", "router"),
})  # fmt: skip
"what a name speaks of that says how attention is run or was trained, or that it means something else"
READ = frozenset({
    *("max_position_embeddings", "original_max_position_embeddings", DUAL_CHUNK),
    *("num_attention_heads", "num_key_value_heads"),
    *("partial_rotary_factor", "rope_parameters", "rope_scaling", "rope_theta"),
    *("max_window_layers", "sliding_window", "use_sliding_window"),
    *("chunk_size_feed_forward", "max_target_positions", "n_positions", "output_attentions"),
    *("block_size", "decoder_sparse_step", "lora_scale", "lora_scaling", "low_cpu_mem_usage"),
})  # fmt: skip
"what `read_base` reads of every model type, and what changes nothing"
OWN = {
    "gemma3_text": frozenset({
        *("attention_bias", "final_logit_softcapping", "query_pre_attn_scalar", "rope_local_base_freq"),
        *("sliding_window_pattern", "_sliding_window_pattern"),
        *("qk_layernorm", "qk_norm", "use_qk_norm"),
    }),
    "llama": frozenset({"attention_bias"}),
    "qwen2": frozenset({"attention_bias", "qkv_bias", "use_qkv_bias"}),
    "qwen3": frozenset({"attention_bias", "qk_layernorm", "qk_norm", "use_qk_norm"}),
}  # fmt: skip
"what the classes of a model type do by themselves, before and behind the rotation"
NEUTRAL: dict[str, tuple[Any, ...]] = {
    "rope_type": ("default",),
    **dict.fromkeys(("full_attn_mod", "logit_scale", "logits_scaling", "rope_percent", "rope_ratio"), (1,)),
    **dict.fromkeys(("rot_pct", "rotary_emb_fraction", "rotary_pct", "rotary_percent"), (1,)),
    **dict.fromkeys(("rope_scaling_factor", "rotary_percentage", "rotary_scaling_factor"), (1,)),
}
"values that say what is done anyway, beside null, false, 0 and what is empty"
USUAL = ("causal", "rope", "rotary")
"and those that say it under any key"
RESTATED = {
    "head_dim": ("attention_head_dim", "kv_channels", "qk_head_dim", "v_head_dim"),
    "rotary_dim": ("rope_dim", "rotary_dim", "rotary_emb_dim"),
    "num_attention_heads": ("attention_heads", "num_heads", "num_q_heads", "num_query_heads"),
    "num_key_value_heads": ("n_kv_heads", "num_kv_heads"),
    "rope_theta": ("rope_base", "rotary_base", "rotary_emb_base"),
}
"facts that are read, and other names of them, which may say the same"
FACT = {name: fact for fact, names in RESTATED.items() for name in names}
ON = frozenset({
    *("causal", "causal_mask", "is_causal", "use_causal_mask", "rope", "rotary", "use_rope", "use_rotary"),
    *("use_rotary_embedding", "use_rotary_embeddings", "use_rotary_position_embeddings"),
    "scale_attn_weights",
})  # fmt: skip
"keys that say what is done anyway where they are true, and change it where they are false"
LENGTHS = (
    *("max_sequence_length", "seq_length", "max_seq_len", "model_max_length"),
    *("max_seq_length", "max_target_positions", "n_positions", "seq_len"),
)
"other names of max_position_embeddings, at which some engine stops"
SHOWN = 60
"letters of a value that a message shows"


def check_keys(fields: Mapping[str, Any]) -> None:
    """Refuse, all at once and by name, every key that changes attention and is not read here."""
    problems = [_problem(fields, key) for key in unread(fields)] + [*_layers(fields)]
    if problems:
        raise RopeError("\n".join(problems))


def unread(fields: Mapping[str, Any]) -> list[str]:
    """Return the keys whose name and value say that attention is another one."""
    known, facts = READ | OWN.get(str(fields.get("model_type")), frozenset()), _facts(fields)
    return [
        key
        for key, value in fields.items()
        if _speaks_of_attention(key)
        and key not in known
        and value is not None
        and value not in (*NEUTRAL.get(key, ()), *USUAL, facts.get(FACT.get(key, "")))
        and bool(value) != (key in ON)
    ]


def _facts(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return what `read_base` reads under its own names, as far as it is stated."""
    nested = fields.get("rope_parameters") or {}
    stated = {**fields, **(nested.get(FULL) or nested)}
    width, count = fields.get("hidden_size"), fields.get("num_attention_heads")
    head_dim = fields.get("head_dim") or (width // count if width and count else None)
    return {
        "head_dim": head_dim,
        "rotary_dim": head_dim and int(head_dim * (stated.get("partial_rotary_factor") or 1)),
        "num_attention_heads": count,
        "num_key_value_heads": fields.get("num_key_value_heads") or count,
        "rope_theta": stated.get("rope_theta"),
    }


def _problem(fields: Mapping[str, Any], key: str) -> str:
    value = repr(fields[key])
    return (
        f"config.{key}: must be {'on' if key in ON else 'off'} or gone, got "
        f"{value if len(value) <= SHOWN else f'{value[:SHOWN]}...'}, of which the attention of "
        f"{fields['model_type']} here knows nothing; remove it if the weights were trained without it, else "
        "use a causal model of a supported type"
    )


def _speaks_of_attention(key: str) -> bool:
    """Say whether a name has a word of attention or position, and none of how it is run."""
    words = set(key.lower().split("_"))
    return not words & HOW and (bool(words & WORDS) or any(word.endswith("rope") for word in words))


def _layers(fields: Mapping[str, Any]) -> Iterator[str]:
    """Find a model without a layer that a scheme would go to."""
    stated = fields.get("layer_types")
    if isinstance(stated, list | tuple) and set(map(str, stated)) == {SLIDING}:
        yield (
            f"config.layer_types: must hold {FULL} for some layers, got {SLIDING} alone, which no scheme "
            "extends; use a model with layers that see everything"
        )


def in_chunks(fields: Mapping[str, Any], layer_type: str, parameters: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a layer type's rope parameters, with dual chunk attention as their type where it is stated."""
    stated = fields.get(DUAL_CHUNK)
    if not stated or layer_type != FULL:
        return parameters
    if not isinstance(stated, Mapping):
        raise RopeError(f"config.{DUAL_CHUNK}: must be an object, got {stated!r}; repair it")
    if parameters["rope_type"] != "default":
        raise RopeError(
            f"config.{DUAL_CHUNK}: must stand alone, got also rope_type {parameters['rope_type']!r}; delete "
            "one of the two"
        )
    whole(stated, "original_max_position_embeddings")
    return {**parameters, "rope_type": DUAL_CHUNK, **stated}
