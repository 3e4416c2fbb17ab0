"""Configs that are refused: where, the value, and a word of the cure."""

import pytest
from world.configs import (
    GEMMA,
    LLAMA3,
    LLAMA31,
    PHI3,
    QWEN1M,
    QWEN3,
    SU,
    TWO_KINDS,
    V5,
    YARN,
    in_chunks,
    without,
)

from ropewalk.rope import RopeError, read_base

REFUSED = [
    ({"model_type": "gemma2"}, "config.model_type", "gemma2", "soft-caps"),
    ({"model_type": "deepseek_v3"}, "config.model_type", "deepseek_v3", "latent"),
    ({"model_type": "jamba"}, "config.model_type", "jamba", "no attention"),
    ({"model_type": "qwen3_next"}, "config.model_type", "qwen3_next", "no attention"),
    ({"model_type": "falcon_h1"}, "config.model_type", "falcon_h1", "no attention"),
    ({"model_type": "mamba"}, "config.model_type", "mamba", "no attention"),
    ({"model_type": "gpt2"}, "config.model_type", "gpt2", "no rotary"),
    ({"model_type": "bloom"}, "config.model_type", "bloom", "no rotary"),
    ({"model_type": "olmo3"}, "config.model_type", "olmo3", "not supported yet"),
    ({}, "config.model_type", "None", "supported type"),
    (without(model_type="mistral", sliding_window=4096), "config.sliding_window", "4096", "null"),
    (without(model_type="mistral"), "config.sliding_window", "4096", "null"),
    (
        without(model_type="mistral", use_sliding_window=False),
        "config.sliding_window",
        "4096",
        "null",
    ),
    (GEMMA | {"sliding_window": None}, "config.sliding_window", "None", "complete"),
    (without(layer_types=["chunked_attention"]), "config.layer_types", "chunked", "without"),
    (
        without(model_type="qwen2", use_sliding_window=True, sliding_window=99),
        "config.sliding_window",
        "99",
        "null",
    ),
    (
        without(layer_types=["full_attention", "sliding_attention"]),
        "config.layer_types",
        "sliding",
        "without",
    ),
    (GEMMA | {"rope_parameters": V5}, "config.rope_parameters", "rope_type, rope_theta", "under full"),
    (GEMMA | {"rope_parameters": TWO_KINDS | V5}, "config.rope_parameters", "beside full", "delete"),
    (GEMMA | {"rope_scaling": TWO_KINDS}, "config.rope_scaling", "full_attention", "move them up"),
    (
        without("rope_theta", rope_parameters={"full_attention": V5}),
        "config.rope_parameters",
        "full_attention",
        "move them up",
    ),
    (
        QWEN3 | {"rope_scaling": YARN, "rope_parameters": YARN | {"attention_factor": 1.3}},
        "config.rope_scaling",
        "no attention_factor",
        "there too",
    ),
    (without(rope_parameters=[]), "config.rope_parameters", "[]", "repair"),
    (without(rope_scaling="yarn"), "config.rope_scaling", "'yarn'", "repair"),
    (without(rope_scaling={"type": "linear", "factor": "4"}), "config.rope_scaling.factor", "'4'", "repair"),
    (
        without(rope_scaling={"factor": float("nan")}),
        "config.rope_scaling.factor",
        "nan",
        "repair",
    ),
    (without(rope_parameters={"full_attention": 5}), "config.rope_parameters.full_attention", "5", "repair"),
    (without(hidden_size=2**63), "config.hidden_size", "9223372036854775808", "repair"),
    (without(hidden_size=2**19), "config.hidden_size", "524288", "num_attention_heads"),
    (without(head_dim=10**30), "config.head_dim", "1000", "repair"),
    (without(num_hidden_layers=2**40), "config.num_hidden_layers", "1099511627776", "repair"),
    (without(max_position_embeddings=10**400), "config.max_position_embeddings", "1000", "repair"),
    (without(max_position_embeddings=True), "config.max_position_embeddings", "True", "repair"),
    (without(max_position_embeddings=1), "base.original_length", "1", "in tokens"),
    (without(rope_theta=10**400), "config.rope_theta", "1000", "repair"),
    (without(rope_theta="1e4"), "config.rope_theta", "'1e4'", "repair"),
    (without(head_dim=2, rope_scaling={"type": "dynamic", "factor": 2}), "rope.dynamic", "2", "linear"),
    (PHI3 | {"rope_scaling": SU | {"long_factor": [2.0] * 3}}, "rope.longrope.factors", "3", "this model"),
    (
        without(rope_scaling={"long_factor": [1, None]}),
        "config.rope_scaling.long_factor[1]",
        "None",
        "repair",
    ),
    (["a list"], "config", "'a list'", "config.json"),
    ({"model_type": "gemma3"}, "config.model_type", "gemma3", "language model"),
    (GEMMA | {"use_bidirectional_attention": True}, "config.use_bidirectional_attention", "True", "causal"),
    (GEMMA | {"rope_local_base_freq": 5e4}, "config.rope_theta", "10000.0 and, from top level, 5", "delete"),
    (without("rope_theta", model_type="qwen2"), "config.rope_theta", "none", "trained with"),
    (without("rope_theta", rope_parameters={"rope_type": "default"}), "config.rope_theta", "none", "add"),
    (without(rope_parameters=V5), "config.rope_theta", "10000.0 and, from top level, 500000", "delete"),
    (without(rope_scaling=V5), "config.rope_theta", "10000.0 and", "delete"),
    (
        LLAMA31 | {"rope_parameters": LLAMA3 | {"rope_theta": 5e5, "factor": 4.0}},
        "config.factor",
        "4.0 and, from rope_scaling, 8.0",
        "delete",
    ),
    (without(rope_scaling={"type": "yarn", "rope_type": "linear"}), "config.rope_type", "'linear'", "delete"),
    (without(rope_scaling={"type": "axial"}), "config.rope_type", "axial", "not supported yet"),
    (without(rope_scaling={"type": "linear", "scale": 2}), "config.rope_parameters", "scale", "remove"),
    (
        without(rope_scaling=YARN | {"llama_4_scaling_beta": 0.1}, model_type="mistral", sliding_window=None),
        "config.rope_parameters",
        "llama_4_scaling_beta",
        "remove",
    ),
    (without(rope_scaling={"type": "llama3", "factor": 8}), "config.rope_parameters", "low_freq", "complete"),
    (without(rope_scaling={"type": "linear", "factor": 0.5}), "rope.linear.factor", "0.5", "derive"),
    (
        without("rope_theta", rope_parameters={"full_attention": V5, "sliding_attention": V5}),
        "config.rope_parameters",
        "sliding_attention",
        "one kind",
    ),
    (
        LLAMA31 | {"original_max_position_embeddings": 4096},
        "config.original_max_position_embeddings",
        "4096 and 8192",
        "scaled from",
    ),
    (without("max_position_embeddings"), "config.max_position_embeddings", "None", "complete"),
    (without("hidden_size"), "config.hidden_size", "None", "complete"),
    (without("num_key_value_heads", model_type="qwen2"), "config.num_key_value_heads", "None", "complete"),
    (without(model_type="qwen3"), "config.head_dim", "None", "complete"),
    (without(num_key_value_heads=5), "base.kv_heads", "5", "num_key_value_heads"),
    (in_chunks(local_size=None), "config.dual_chunk_attention_config", "no local_size", "complete"),
    (
        in_chunks(original_max_position_embeddings="x"),
        "config.original_max_position_embeddings",
        "'x'",
        "complete",
    ),
    (in_chunks(chunk_size=300000), "rope.dca.chunk", "300000", "three quarters"),
    (in_chunks(chunk_size="8192"), "rope.dca.chunk", "'8192'", "leave it out"),
    (in_chunks(clusters=4), "config.rope_parameters", "clusters", "remove"),
    (
        QWEN1M | {"dual_chunk_attention_config": True},
        "config.dual_chunk_attention_config",
        "True",
        "repair",
    ),
    (QWEN1M | {"rope_scaling": YARN}, "config.dual_chunk_attention_config", "'yarn'", "delete"),
    (
        QWEN1M | {"original_max_position_embeddings": 32768},
        "config.original_max_position_embeddings",
        "32768 and 262144",
        "scaled from",
    ),
    (without(partial_rotary_factor=0.0), "config.partial_rotary_factor", "0", "repair"),
    (without(rope_theta=1.0), "config.rope_theta", "1.0", "repair"),
    (without(rope_theta=-1.0), "config.rope_theta", "-1", "repair"),
]


@pytest.mark.parametrize(("config", "key", "value", "cure"), REFUSED)
def test_bad_input(config, key, value, cure):
    with pytest.raises(RopeError) as caught:
        read_base(config)
    where, _, rest = str(caught.value).partition(": ")
    assert where == key
    assert value in rest
    assert cure in rest
