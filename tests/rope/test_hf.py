"""Configs as the Hub has them: both layouts, and what we write."""

import json
from typing import Any

import numpy as np
import pytest
from transformers import AutoConfig, AutoModelForCausalLM
from world.configs import (
    HEADS,
    LLAMA,
    LLAMA31,
    PHI3,
    QWEN1M,
    QWEN3,
    SU,
    YARN,
)

from ropewalk.rope import RopeError, config_fields, make_scheme, read_base

# what published config.json files say, and what they mean
PUBLISHED = {
    "llama 2, older than rope_theta": (
        {
            "model_type": "llama",
            "hidden_size": 4096,
            "num_attention_heads": 32,
            "max_position_embeddings": 4096,
        },
        {"theta": 1e4, "original_length": 4096, "kv_heads": 32, "current": make_scheme("default")},
    ),
    "llama 3.1": (
        LLAMA31,
        {
            "theta": 5e5,
            "original_length": 8192,
            "trained_length": 131072,
            "current": make_scheme("llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0),
        },
    ),
    "qwen 2.5, window switched off": (
        {"model_type": "qwen2", "max_position_embeddings": 32768, "rope_theta": 1e6, **HEADS}
        | {"sliding_window": 131072, "use_sliding_window": False},
        {"theta": 1e6, "head_dim": 128, "kv_heads": 8},
    ),
    "qwen 2.5 1M, in chunks": (
        QWEN1M,
        {
            "theta": 1e7,
            "original_length": 262144,
            "trained_length": 1010000,
            "current": make_scheme("dca", chunk=262144, window=8192, log_scale=0.1),
        },
    ),
    "mistral 0.3": (
        LLAMA | {"model_type": "mistral", "sliding_window": None, "max_position_embeddings": 32768},
        {"original_length": 32768},
    ),
    "qwen 3 with yarn": (
        QWEN3 | {"rope_scaling": YARN},
        {"original_length": 32768, "trained_length": 131072, "current": make_scheme("yarn", factor=4.0)},
    ),
    "yarn without factor": (
        QWEN3 | {"rope_scaling": {"rope_type": "yarn", "original_max_position_embeddings": 8192}},
        {"current": make_scheme("yarn", factor=16.0)},
    ),
    "yarn with an mscale pair that cancels": (
        QWEN3 | {"rope_scaling": YARN | {"mscale": 1.0, "mscale_all_dim": 1.0}},
        {"current": make_scheme("yarn", factor=4.0, attention_scale=1.0)},
    ),
    "transformers 5": (
        {key: LLAMA[key] for key in ("model_type", "max_position_embeddings", *HEADS)}
        | {"rope_parameters": {"rope_type": "linear", "factor": 4.0, "rope_theta": 1e4}},
        {"theta": 1e4, "current": make_scheme("linear", factor=4.0)},
    ),
    "transformers 5, a set for each layer type": (
        {key: QWEN3[key] for key in ("model_type", "max_position_embeddings", "head_dim", *HEADS)}
        | {"rope_parameters": {"full_attention": {"rope_type": "default", "rope_theta": 2e6}}},
        {"theta": 2e6, "current": make_scheme("default")},
    ),
    "original length at the top, as phi 3 has it": (
        LLAMA31
        | {"rope_scaling": {"rope_type": "yarn", "factor": 8.0}, "original_max_position_embeddings": 16384},
        {"original_length": 16384},
    ),
    "qwen 2, window not switched on": (
        {"model_type": "qwen2", "max_position_embeddings": 32768, "rope_theta": 1e6, **HEADS}
        | {"sliding_window": 4096},
        {"window": None},
    ),
    "half of each head": (LLAMA | {"partial_rotary_factor": 0.5}, {"head_dim": 128, "rotary_dim": 64}),
    "half of each head, transformers 5": (
        {key: value for key, value in LLAMA.items() if key != "rope_theta"}
        | {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 0.25}},
        {"rotary_dim": 32},
    ),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_read_base(name):
    config, want = PUBLISHED[name]
    bases = read_base(config)
    assert list(bases) == ["full_attention"]
    assert {key: getattr(bases["full_attention"], key) for key in want} == want


# transformers 5 refuses yarn without factor, and gives an object with a top-level length two that differ
AS_OBJECTS = [name for name in PUBLISHED if "without" not in name and "phi" not in name]


@pytest.mark.parametrize("name", AS_OBJECTS)
def test_an_object_reads_like_its_dict(name):
    config, _ = PUBLISHED[name]
    made = AutoConfig.for_model(**config | {"rope_scaling": dict(config.get("rope_scaling") or {})})
    assert read_base(made) == read_base(config)
    assert read_base(made.to_dict()) == read_base(config)


def test_lengths_can_be_overridden():
    base = read_base(LLAMA, original_length=4096, trained_length=65536)["full_attention"]
    assert (base.original_length, base.trained_length) == (4096, 65536)
    assert read_base(LLAMA31, trained_length=65536)["full_attention"].trained_length == 65536
    assert read_base(LLAMA31, original_length=8192)["full_attention"].original_length == 8192


@pytest.mark.parametrize("older", ["su", "yarn"])
def test_older_names_of_phi_3(older):
    """Transformers maps both to longrope, whose scale is sqrt(1 + ln 32 / ln 4096), and takes 4096."""
    base = read_base(PHI3 | {"rope_scaling": SU | {"type": older}})["full_attention"]
    assert (base.current.name, base.original_length, base.guesses) == ("longrope", 4096, ())
    got = base.current.frequencies(base, target_length=131072)
    assert got.attention_scale == pytest.approx(1.1902, abs=1e-4)


def test_an_override_cannot_contradict_the_scheme_in_force():
    with pytest.raises(RopeError, match=r"original_max_position_embeddings: .*4096 and 8192"):
        read_base(LLAMA31, original_length=4096)


SCHEMES = {
    "default": {},
    "linear": {},
    "ntk": {},
    "abf": {},
    "yarn": {"beta_fast": 4, "attention_scale": 1.1},
    "llama3": {"factor": 16},
}


@pytest.mark.parametrize(("name", "knobs"), SCHEMES.items())
def test_config_fields(name, knobs):
    """Transformers 5 and each layout by itself find the same frequencies in the written file."""
    bases, scheme = read_base(LLAMA31), make_scheme(name, **knobs)
    written = json.loads(json.dumps(config_fields(LLAMA31, bases, scheme, target_length=262144)))
    want = scheme.frequencies(bases["full_attention"], target_length=262144)
    assert written["max_position_embeddings"] == 262144
    assert isinstance(written["max_position_embeddings"], int)
    newer = {key: value for key, value in written.items() if key not in ("rope_theta", "rope_scaling")}
    older = {key: value for key, value in written.items() if key != "rope_parameters"}
    small: dict[str, Any]
    for config in (written, newer, older):
        again = read_base(config)["full_attention"]
        assert again.current.frequencies(again, target_length=1 << 20).fingerprint == want.fingerprint
        small = config | {"num_hidden_layers": 1, "vocab_size": 8, "intermediate_size": 8, "hidden_size": 256}
        small |= {"num_attention_heads": 2, "num_key_value_heads": 1}
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**small))
        theirs = model.model.rotary_emb
        np.testing.assert_allclose(theirs.inv_freq.double(), want.inv_freq[0], rtol=1e-5)
        assert theirs.attention_scaling == pytest.approx(want.attention_scale)


def test_config_fields_keep_the_chunks_of_a_model_and_take_them_with_another_scheme():
    bases = read_base(QWEN1M)
    base = bases["full_attention"]
    kept = config_fields(QWEN1M, bases, base.current, target_length=base.trained_length)
    assert read_base(kept) == bases
    scaled = config_fields(QWEN1M, bases, make_scheme("yarn"), target_length=1 << 20)
    assert "dual_chunk_attention_config" not in scaled
    assert read_base(scaled)["full_attention"].current.name == "yarn"


def test_config_fields_leaves_no_trace_of_the_old_scheme():
    config = LLAMA | {"original_max_position_embeddings": 4096, "torch_dtype": "bfloat16"}
    config |= {"max_sequence_length": 2048, "seq_length": None}
    bases = read_base(LLAMA)
    written = config_fields(config, bases, make_scheme("yarn"), target_length=32768)
    assert "original_max_position_embeddings" not in written
    assert written["torch_dtype"] == "bfloat16"
    assert (written["max_sequence_length"], written["seq_length"]) == (32768, None)
    assert written["rope_scaling"]["type"] == written["rope_scaling"]["rope_type"] == "yarn"
    assert config_fields(written, bases, make_scheme("abf"), target_length=32768)["rope_scaling"] is None
    assert config["max_position_embeddings"] == 8192
