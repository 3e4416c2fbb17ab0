"""Keys that change attention are refused by name, and the many others of public configs are not."""

from typing import Any

import pytest
from transformers import AutoConfig

from ropewalk.rope import RopeError, read_base
from ropewalk.rope.families import SUPPORTED
from ropewalk.rope.keys import check_keys

LLAMA = {"model_type": "llama", "hidden_size": 4096, "num_attention_heads": 32, "num_key_value_heads": 8}
LLAMA |= {"max_position_embeddings": 8192, "rope_theta": 5e5}

CHANGE: list[tuple[str, Any]] = [
    ("no_rope_layers", [1, 1, 1, 0]),
    ("no_rope_layer_interval", 4),
    ("nope_layer_interval", 4),
    ("attention_chunk_size", 8192),
    ("attn_temperature_tuning", True),
    ("floor_scale", 8192),
    ("attn_scale", 0.1),
    ("attention_multiplier", 0.0078125),
    ("query_pre_attn_scalar", 256),
    ("attn_logit_softcapping", 50.0),
    ("logits_soft_cap", 30.0),
    ("use_bidirectional_attention", True),
    ("is_causal", False),
    ("use_rope", False),
    ("use_qk_norm", True),
    ("clip_qkv", 8.0),
    ("alibi", True),
    ("cope", True),
    ("position_embedding_type", "alibi"),
    ("attention_sink", 4),
    ("sliding_window_pattern", 4),
    ("rope_interleaved", True),
    ("rope_local_base_freq", 1e4),
    ("rope_ratio", 500),
    ("rotary_pct", 0.25),
    ("rotary_percentage", 0.25),
    ("rotary_dim", 64),
    ("partial_rotary_factors", [1.0, 0.5]),
    ("use_dynamic_ntk", True),
    ("use_logn_attn", True),
    ("layer_types", ["sliding_attention"]),
    ("num_kv_shared_layers", 10),
    ("layers_block_type", ["mamba"]),
    ("block_configs", [{}]),
    ("hybrid_override_pattern", "M*M*"),
    ("mixer_types", ["mamba"]),
    ("is_encoder_decoder", True),
    ("encoder_only", True),
    ("prefix_lm", True),
    ("mask_type", "full"),
    ("v_head_dim", 64),
    ("num_key_value_heads_per_layer", [8, 4]),
    ("block_sparse", True),
    ("sparse_topk", 64),
    ("sparse_config", {"kernel": 32}),
    ("use_nsa", True),
    ("moba_topk", 12),
    ("mem_freq", 50),
    ("ssmax", True),
    ("softmax_temperature", 0.5),
    ("use_mla", True),
    ("q_lora_rank", 512),
    ("dca", True),
    ("cla_share_factor", 2),
    ("interleaved", True),
    ("no_pe_layers", [3]),
    ("pe_type", "alibi"),
    ("rot_pct", 0.5),
    ("q_norm", True),
    ("output_gate", True),
    # what a Granite multiplies its scores by, where a Llama divides by the root of head_dim
    ("attention_multiplier", 1.0),
    # other values of facts than those that are read, and two that only look like one
    ("kv_channels", 64),
    ("num_kv_heads", 32),
    ("attention_heads", 8),
    ("rotary_emb_base", 1e4),
    ("attention_chunk_size", 128),
    ("qk_nope_head_dim", 128),
]


@pytest.mark.parametrize(("key", "value"), CHANGE)
def test_bad_input(key, value):
    with pytest.raises(RopeError) as caught:
        read_base(LLAMA | {key: value})
    where, _, rest = str(caught.value).partition(": ")
    assert where == f"config.{key}"
    assert str(value).strip("[']") in rest
    assert "use a " in rest.rpartition("; ")[2]


def test_all_are_named_at_once():
    with pytest.raises(RopeError) as caught:
        read_base(LLAMA | dict(CHANGE))
    assert len(str(caught.value).splitlines()) == len(dict(CHANGE))


HARMLESS: list[tuple[str, Any]] = [
    ("kv_channels", 128),
    ("rotary_dim", 128),
    ("attention_head_dim", 128),
    ("v_head_dim", 128),
    ("num_kv_heads", 8),
    ("attention_heads", 32),
    ("rotary_emb_base", 500000),
    ("rotary_base", 5e5),
    ("rotary_percent", 1.0),
    ("rope_percent", 1.0),
    ("rotary_emb_fraction", 1.0),
    ("rotary_scaling_factor", 1.0),
    ("logit_scale", 1.0),
    ("position_encoding_type", "rope"),
    ("position_type", "rotary"),
    ("pe_type", "rope"),
    ("mask_type", "causal"),
    ("scale_attn_weights", True),
    ("attn_backend", "flashinfer"),
    ("attention_backend", "fa3"),
    ("use_memory_efficient_attention", True),
    ("apply_rope_fusion", True),
    ("use_fused_rope", True),
    ("kv_quant", "int8"),
    ("loss_scale", 128.0),
    ("lora_scaling", 2.0),
    ("router_scale", 2.5),
    ("mask_token_id", 5),
    ("low_cpu_mem_usage", True),
]


@pytest.mark.parametrize(("key", "value"), HARMLESS)
def test_what_is_done_anyway_is_not_refused(key, value):
    read_base(LLAMA | {key: value})
    newer = {name: value for name, value in LLAMA.items() if name != "rope_theta"}
    read_base(newer | {"rope_parameters": {"rope_type": "default", "rope_theta": 5e5}, key: value})


def test_a_fact_is_restated_as_the_model_has_it():
    phi3 = {"model_type": "phi3", "head_dim": 128, "partial_rotary_factor": 0.75}
    check_keys(phi3 | {"rotary_dim": 96})
    with pytest.raises(RopeError, match="rotary_dim"):
        check_keys(phi3 | {"rotary_dim": 128})


@pytest.mark.parametrize(
    ("model_type", "keys"),
    [
        ("qwen2", ["attention_bias", "qkv_bias", "use_qkv_bias"]),
        ("qwen3", ["use_qk_norm", "qk_layernorm"]),
        ("gemma3_text", ["use_qk_norm"]),
    ],
)
def test_what_a_class_does_anyway_is_not_refused(model_type, keys):
    check_keys({"model_type": model_type} | dict.fromkeys(keys, True))


@pytest.mark.parametrize("model_type", ["mistral", "phi3"])
def test_what_one_family_does_by_itself_another_does_not(model_type):
    check_keys({"model_type": "llama", "attention_bias": True})
    check_keys({"model_type": model_type, "attention_bias": False})
    with pytest.raises(RopeError, match="attention_bias"):
        check_keys({"model_type": model_type, "attention_bias": True})


@pytest.mark.parametrize("model_type", SUPPORTED)
def test_what_transformers_writes_of_a_model_is_known(model_type):
    check_keys(AutoConfig.for_model(model_type).to_dict())
    check_keys(AutoConfig.for_model(model_type).to_dict() | {"sliding_window": 64})


def test_layers_that_see_everything_must_be_there():
    check_keys({"model_type": "gemma3_text", "layer_types": ["sliding_attention", "full_attention"]})
    with pytest.raises(RopeError, match="layer_types"):
        check_keys({"model_type": "gemma3_text", "layer_types": ["sliding_attention"] * 2})


# keys and values of published configs, as far as their names could mean attention
PUBLISHED: dict[str, dict[str, Any]] = {
    "Llama-2-7b": {"model_type": "llama", "pretraining_tp": 1, "rope_scaling": None},
    "SmolLM-135M": {"model_type": "llama", "rope_interleaved": False, "is_llama_config": True},
    "Llama-3.2-1B": {"model_type": "llama", "attention_bias": False, "mlp_bias": False, "head_dim": 64},
    "an old dump of all defaults": {
        "model_type": "llama",
        "output_attentions": False, "chunk_size_feed_forward": 0, "add_cross_attention": False,
        "cross_attention_hidden_size": None, "pruned_heads": {}, "max_sequence_length": 2048,
    },
    "a draft model": {"model_type": "llama", "decoder_sparse_step": 1, "draft_vocab_size": 32000},
    "with a word on its kernel": {
        "model_type": "mistral",
        "_flash_attn_2_enabled": True, "_attn_implementation_autoset": True, "attn_impl": "flash",
    },
    "Mistral-Nemo": {"model_type": "mistral", "sliding_window": None, "attention_dropout": 0.0},
    "Qwen2.5-7B": {
        "model_type": "qwen2",
        "max_window_layers": 28, "sliding_window": 131072, "use_sliding_window": False,
    },
    "Qwen3-0.6B": {"model_type": "qwen3", "attention_bias": False, "max_window_layers": 28},
    "Phi-4-mini": {
        "model_type": "phi3",
        "attention_bias": False, "embd_pdrop": 0.0, "sliding_window": 262144, "auto_map": {},
        "full_attn_mod": 1, "interpolate_factor": 1, "lm_head_bias": False, "mlp_bias": False,
        "original_max_position_embeddings": 4096, "partial_rotary_factor": 0.75,
    },
    "gemma-3-1b": {
        "model_type": "gemma3_text",
        "attn_logit_softcapping": None, "cache_implementation": "hybrid", "sliding_window_pattern": 6,
        "query_pre_attn_scalar": 256, "rope_local_base_freq": 10000, "final_logit_softcapping": None,
    },
    "gemma-3-270m": {
        "model_type": "gemma3_text",
        "_sliding_window_pattern": 6, "use_bidirectional_attention": False, "sliding_window": 512,
    },
    "made with unsloth": {"model_type": "qwen3", "unsloth_fixed": True, "quantization_config": {"bits": 4}},
}  # fmt: skip


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_configs_are_not_refused(name):
    check_keys(PUBLISHED[name])
