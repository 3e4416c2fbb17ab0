"""What readers compute: against transformers itself, and against the rules in the engines' source."""

import copy
import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from ropewalk.rope.engines import (
    READERS,
    CannotRead,
    Question,
    verify_folder,
)
from ropewalk.rope.engines.transformers import ASKED, READER_5
from ropewalk.rope.engines.transformers import READER_4 as OLD

HEADS = {"hidden_size": 256, "num_attention_heads": 4, "num_key_value_heads": 2}
LLAMA: dict[str, Any] = {"model_type": "llama", "max_position_embeddings": 2048, "rope_theta": 5e5, **HEADS}
LINEAR = {"rope_type": "linear", "factor": 4.0}
DYNAMIC = {"rope_type": "dynamic", "factor": 4.0}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 512}
LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
LLAMA3 |= {"original_max_position_embeddings": 512}
LONG = {
    "rope_type": "longrope",
    "factor": 4.0,
    "original_max_position_embeddings": 512,
    "short_factor": [1 + pair / 32 for pair in range(32)],
    "long_factor": [1 + pair / 4 for pair in range(32)],
}
PHI3 = LLAMA | {"model_type": "phi3", "partial_rotary_factor": 0.75, "original_max_position_embeddings": 512}
PHI = {"type": "longrope", "short_factor": [1.0] * 24, "long_factor": [2.0] * 24}
GEMMA3 = LLAMA | {"model_type": "gemma3_text", "head_dim": 64, "num_hidden_layers": 6, "sliding_window": 64}


def scaled(stated: dict[str, Any], **more: Any) -> dict[str, Any]:
    return LLAMA | {"rope_scaling": stated} | more


def tidy(config: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in config.items() if value is not None}


# every layout that a reader of transformers configs meets, by name
CONFIGS: dict[str, dict[str, Any]] = {
    "default": LLAMA,
    "only the new layout": {**LLAMA, "rope_theta": None, "rope_parameters": YARN | {"rope_theta": 1e6}},
    "linear": LLAMA | {"rope_scaling": {"type": "linear", "factor": 4.0}},
    "dynamic": LLAMA | {"rope_scaling": DYNAMIC},
    "yarn": LLAMA | {"rope_scaling": YARN},
    "yarn, written out": LLAMA | {"rope_scaling": YARN | {"attention_factor": 1.3, "truncate": False}},
    "yarn with mscale": LLAMA | {"rope_scaling": YARN | {"mscale": 0.7, "mscale_all_dim": 1.0}},
    "yarn without original": LLAMA | {"rope_scaling": {"rope_type": "yarn", "factor": 4.0}},
    "llama3": LLAMA | {"rope_scaling": LLAMA3},
    "longrope": LLAMA | {"rope_scaling": LONG},
    "longrope, original on top": LLAMA | {"rope_scaling": LONG, "original_max_position_embeddings": 512},
    "yarn, another original on top": LLAMA | {"rope_scaling": YARN, "original_max_position_embeddings": 1024},
    "longrope, written out": LLAMA | {"rope_scaling": LONG | {"attention_factor": 1.2}},
    "two names": LLAMA | {"rope_scaling": YARN | {"type": "linear"}},
    "unknown": LLAMA | {"rope_scaling": YARN | {"rope_type": "ntk"}},
    "qwen3 without head_dim": LLAMA | {"model_type": "qwen3"},
    "mistral": LLAMA | {"model_type": "mistral", "rope_scaling": YARN},
    "mistral, head_dim": LLAMA | {"model_type": "mistral", "rope_scaling": YARN, "head_dim": 64},
    "mistral, two names": LLAMA
    | {"model_type": "mistral", "rope_scaling": YARN | {"type": "linear"}, "head_dim": 64},
    "gemma3": GEMMA3 | {"rope_scaling": {"rope_type": "linear", "factor": 8.0}},
    "phi3": PHI3 | {"rope_scaling": PHI},
    "phi3, four keys": PHI3 | {"rope_scaling": PHI | {"attention_factor": 1.2}},
    "phi3, su": PHI3 | {"rope_scaling": PHI | {"type": "su"}},
    "phi3, su, original inside": PHI3
    | {"rope_scaling": PHI | {"type": "su", "original_max_position_embeddings": 512}},
    "phi3, yarn for longrope": PHI3 | {"rope_scaling": PHI | {"type": "yarn"}},
    "phi3, linear": PHI3 | {"rope_scaling": PHI | {"type": "linear"}},
    "llama, su": scaled(PHI | {"type": "su"}),
    "gemma3, flat": tidy(GEMMA3 | {"rope_theta": None, "rope_parameters": LINEAR | {"rope_theta": 5e5}}),
    "gemma3, both layouts": GEMMA3
    | {"rope_parameters": {"full_attention": LINEAR | {"rope_theta": 5e5}}, "rope_local_base_freq": 2e4},
    "nested for llama": LLAMA | {"rope_parameters": {"full_attention": LINEAR | {"rope_theta": 3e4}}},
    "nested for qwen2": LLAMA | {"model_type": "qwen2", "rope_scaling": {"full_attention": LINEAR}},
    "nested for mistral": LLAMA
    | {"model_type": "mistral", "head_dim": 64, "rope_scaling": {"full_attention": DYNAMIC}},
    "qwen2, a window that is off": LLAMA | {"model_type": "qwen2", "sliding_window": 64},
}
LENGTHS = (512, 2048, 4096)
LEFT_OUT = ("max_position_embeddings", "num_attention_heads", "num_key_value_heads")
READERS_NAMES = [reader.name for reader in READERS]


def reader(name: str) -> Any:
    return next(found for found in READERS if found.name.startswith(name))


def ask(name: str, config: dict[str, Any], **question: Any) -> Any:
    return reader(name).ask(tidy(config), Question(**question))


SMALL: dict[str, Any] = {"num_hidden_layers": 6, "vocab_size": 8, "intermediate_size": 8}
SMALL |= dict.fromkeys(("pad_token_id", "bos_token_id", "eos_token_id"))


def by_its_own_model(config: dict[str, Any], layer_type: str, length: int) -> tuple[Any, float]:
    """Return frequencies and scale of the rotary module in a model that transformers makes of a config."""
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**copy.deepcopy({**config, **SMALL})))
    module = type(model.model.rotary_emb)(model.config)
    gemma = config["model_type"] == "gemma3_text"
    module(torch.zeros(1), torch.arange(length)[None], **({"layer_type": layer_type} if gemma else {}))
    prefix = f"{layer_type}_" if gemma else ""
    return getattr(module, f"{prefix}inv_freq").double(), getattr(module, f"{prefix}attention_scaling")


@pytest.mark.parametrize("name", CONFIGS)
def test_a_row_marked_run_is_what_the_installed_model_computes(name: str, tmp_path: Path) -> None:
    config = tidy(CONFIGS[name])
    (tmp_path / "config.json").write_text(json.dumps(config))
    asked = [row for row in verify_folder(tmp_path).rows if row.reader.how == "run"]
    assert {row.layer_type for row in asked} >= {"full_attention"}
    for row in asked:
        for length in LENGTHS:
            if row.reading is None:
                with pytest.raises((KeyError, ValueError, RuntimeError)):
                    by_its_own_model(config, row.layer_type, length)
                continue
            inv_freq, scale = by_its_own_model(config, row.layer_type, length)
            read = row.reading.at(length)
            np.testing.assert_allclose(read.inv_freq[0], inv_freq, rtol=1e-6)
            assert read.attention_scale == pytest.approx(scale)


@pytest.mark.parametrize("name", READERS_NAMES)
def test_a_model_that_sees_images_is_read_by_its_language_part(name: str, tmp_path: Path) -> None:
    """A published Gemma 3 leaves heads and window to its config class."""
    inside = {key: value for key, value in CONFIGS["gemma3"].items() if key not in LEFT_OUT}
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "gemma3", "text_config": inside}))
    rows = [row for row in verify_folder(tmp_path).rows if row.reader.name.startswith(name)]
    row = next(row for row in rows if row.layer_type == "full_attention")
    full = {"max_position_embeddings": 131072, "num_attention_heads": 8, "num_key_value_heads": 4}
    want = ask(name, inside | full)
    assert row.reading is not None
    np.testing.assert_allclose(row.reading.at(2048).inv_freq, want.at(2048).inv_freq, rtol=1e-6)
    assert row.reading.window == want.window


@pytest.mark.parametrize("layer_type", ["full_attention", "sliding_attention"])
@pytest.mark.parametrize("name", CONFIGS)
def test_our_rules_of_transformers_5_are_its_own_code(name: str, layer_type: str) -> None:
    config, question = tidy(CONFIGS[name]), Question(layer_type=layer_type)
    try:
        want = ASKED.ask(config, question)
    except CannotRead:
        with pytest.raises(CannotRead):
            READER_5.ask(config, question)
        return
    read = READER_5.ask(config, question)
    for fact in ("kind", "theta", "rotary_dim", "window", "factor"):
        assert getattr(read, fact) == getattr(want, fact)
    for length in LENGTHS:
        np.testing.assert_allclose(read.at(length).inv_freq, want.at(length).inv_freq, rtol=2e-6)
        assert read.at(length).attention_scale == pytest.approx(want.at(length).attention_scale)


PROGRAM = """
import json, sys
sys.path.insert(0, sys.argv[1])
import torch
from importlib import import_module
from transformers import CONFIG_MAPPING
configs, lengths = json.load(open(sys.argv[2]))
said = {}
for name, fields in configs.items():
    kind = fields["model_type"].replace("_text", "")
    try:
        config = CONFIG_MAPPING[fields["model_type"]].from_dict(fields)
        code = import_module(f"transformers.models.{kind}.modeling_{kind}")
        [rotary] = [getattr(code, key) for key in dir(code) if key.endswith("RotaryEmbedding")]
        said[name] = []
        for length in lengths:
            module = rotary(config)
            module(torch.zeros(1), torch.arange(length)[None])
            said[name].append([module.inv_freq.tolist(), float(module.attention_scaling)])
    except Exception as error:
        said[name] = type(error).__name__
json.dump(said, open(sys.argv[3], "w"))
"""


@pytest.mark.slow
def test_transformers_4_is_what_it_computes(tmp_path: Path) -> None:
    """The oldest supported reader, installed beside; skipped where pip reaches nothing."""
    older = ("transformers==4.57.6", "tokenizers<0.23", "huggingface-hub<1")
    needs = ("requests", "urllib3", "charset-normalizer", "certifi", "idna")
    pip = (sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(tmp_path / "older"))
    if subprocess.run([*pip, *older, *needs], capture_output=True).returncode:
        pytest.skip("pip cannot install transformers 4.57 here")
    files = tmp_path / "asked.json", tmp_path / "said.json"
    files[0].write_text(json.dumps([{name: tidy(config) for name, config in CONFIGS.items()}, LENGTHS]))
    subprocess.run([sys.executable, "-c", PROGRAM, str(tmp_path / "older"), *map(str, files)], check=True)
    for name, said in json.loads(files[1].read_text()).items():
        if isinstance(said, str):
            with pytest.raises(CannotRead, match=said):
                OLD.ask(tidy(CONFIGS[name]), Question())
            continue
        read = OLD.ask(tidy(CONFIGS[name]), Question())
        for length, (inv_freq, scale) in zip(LENGTHS, said, strict=True):
            np.testing.assert_allclose(read.at(length).inv_freq[0], inv_freq, rtol=1e-6)
            assert read.at(length).attention_scale == pytest.approx(scale)


SU, SU_2048 = (math.sqrt(1 + math.log(4) / math.log(length)) for length in (512, 2048))
SU_1024 = math.sqrt(1 + math.log(2) / math.log(1024))
NO_LENGTH = {key: value for key, value in LONG.items() if key != "original_max_position_embeddings"}
YARN_SCALE = 0.1 * math.log(4) + 1


def slowest(theta: float, divisor: float = 1.0) -> float:
    return theta ** (-62 / 64) / divisor


NTK = 5e5 * 13 ** (64 / 62)
SHORT_END, LONG_END = 1 + 31 / 32, 1 + 31 / 4
TRAINED_POSITIONS = scaled(DYNAMIC | {"max_trained_positions": 512})
# reader, config, what is asked -> slowest frequency, attention scale, window: by hand from its source
RULES: list[tuple[str, dict[str, Any], dict[str, Any], tuple[float, float, int]]] = [
    ("transformers 4", CONFIGS["only the new layout"], {}, (slowest(1e4), 1, 2048)),
    ("transformers 4", CONFIGS["longrope"], {}, (slowest(5e5, SHORT_END), SU_2048, 2048)),
    ("transformers 4", CONFIGS["longrope, original on top"], {}, (slowest(5e5, LONG_END), SU, 2048)),
    ("transformers 4", CONFIGS["two names"], {}, (slowest(5e5, 4), 1, 2048)),
    ("vllm", CONFIGS["linear"], {}, (slowest(5e5, 4), 1, 8192)),
    ("vllm", CONFIGS["linear"], {"tokenizer_length": 1024}, (slowest(5e5, 4), 1, 4096)),
    ("vllm", CONFIGS["gemma3"], {}, (slowest(5e5, 8), 1, 2048)),
    ("vllm", CONFIGS["yarn, written out"], {}, (slowest(5e5, 4), 1.3, 2048)),
    ("vllm", CONFIGS["dynamic"], {}, (slowest(5e5), 1, 8192)),
    ("vllm", TRAINED_POSITIONS, {}, (slowest(NTK), 1, 8192)),
    ("vllm", CONFIGS["longrope, written out"], {}, (slowest(5e5, LONG_END), SU, 2048)),
    ("vllm", CONFIGS["longrope"], {"max_length": 512}, (slowest(5e5, SHORT_END), SU, 512)),
    ("vllm", CONFIGS["longrope, original on top"], {}, (slowest(5e5, SHORT_END), SU, 512)),
    ("vllm", scaled(LONG | {"long_mscale": 1.2}), {}, (slowest(5e5, LONG_END), 1.2, 2048)),
    ("sglang", CONFIGS["linear"], {}, (slowest(5e5, 4), 1, 8192)),
    ("sglang", CONFIGS["yarn, written out"], {}, (slowest(5e5, 4), YARN_SCALE, 2048)),
    ("sglang", scaled(YARN | {"attn_factor": 1.1}), {}, (slowest(5e5, 4), 1.1 * YARN_SCALE, 2048)),
    ("sglang", CONFIGS["dynamic"], {}, (slowest(NTK), 1, 8192)),
    ("sglang", CONFIGS["longrope, written out"], {}, (slowest(5e5, LONG_END), SU, 2048)),
    ("sglang", CONFIGS["gemma3"], {}, (slowest(5e5, 8), 1, 2048)),
    ("tensorrt-llm", CONFIGS["only the new layout"], {}, (slowest(1e4), 1, 2048)),
    ("tensorrt-llm", CONFIGS["linear"], {}, (slowest(5e5, 4), 1, 8192)),
    ("tensorrt-llm", CONFIGS["dynamic"], {}, (slowest(5e5), 1, 8192)),
    ("tensorrt-llm", scaled(DYNAMIC | {"alpha": 13.0}), {}, (slowest(NTK), 1, 8192)),
    ("tensorrt-llm", CONFIGS["yarn, written out"], {}, (slowest(5e5, 4), YARN_SCALE, 2048)),
    ("tensorrt-llm", scaled(YARN | {"mscale": 2.0}), {}, (slowest(5e5, 4), 2 * YARN_SCALE - 1, 2048)),
    ("tensorrt-llm", scaled(LLAMA3), {}, (slowest(5e5, 8), 1, 2048)),
    ("tensorrt-llm", CONFIGS["longrope, written out"], {}, (slowest(5e5, LONG_END), SU, 2048)),
    ("tensorrt-llm", CONFIGS["longrope"], {"max_length": 512}, (slowest(5e5, SHORT_END), SU, 512)),
    ("tensorrt-llm", scaled(NO_LENGTH), {}, (slowest(5e5, LONG_END), SU_1024, 2048)),
    ("tensorrt-llm", CONFIGS["gemma3"], {}, (slowest(5e5, 8), 1, 16384)),
    ("tensorrt-llm", CONFIGS["gemma3"], {"layer_type": "sliding_attention"}, (slowest(1e4), 1, 2048)),
    ("tensorrt-llm", CONFIGS["two names"], {}, (slowest(5e5, 4), 1, 8192)),
    ("transformers 4", CONFIGS["nested for llama"], {}, (slowest(5e5), 1, 2048)),
    ("llama.cpp", CONFIGS["linear"], {}, (slowest(5e5, 4), 1, 2048)),
    ("llama.cpp", CONFIGS["yarn, written out"], {}, (slowest(5e5, 4), YARN_SCALE, 2048)),
    ("llama.cpp", CONFIGS["llama3"], {}, (slowest(5e5, 8), 1, 2048)),
    ("llama.cpp", CONFIGS["llama3"] | {"model_type": "qwen2"}, {}, (slowest(5e5), 1, 2048)),
    ("llama.cpp", CONFIGS["dynamic"], {}, (slowest(5e5), 1, 2048)),
    ("llama.cpp", CONFIGS["longrope"], {}, (slowest(5e5), 1, 2048)),
]


@pytest.mark.parametrize(("name", "config", "asked", "want"), RULES)
def test_rules(name: str, config: dict[str, Any], asked: dict[str, Any], want: tuple[float, ...]) -> None:
    reading = ask(name, config, **asked)
    at = reading.at(max(2048, reading.window))
    assert (at.inv_freq[0, -1].item(), at.attention_scale, reading.window) == pytest.approx(want)


def test_llama_cpp_rounds_the_ramp_whatever_is_stated() -> None:
    rounded, stated = (ask("llama.cpp", CONFIGS[name]).at(1) for name in ("yarn", "yarn, written out"))
    assert (rounded.inv_freq == stated.inv_freq).all()
    exact = ask("vllm", CONFIGS["yarn, written out"]).at(1)
    assert not np.allclose(exact.inv_freq, stated.inv_freq, rtol=1e-3)


def test_phi3_of_llama_cpp_has_both_regimes() -> None:
    older = PHI3 | {"rope_scaling": PHI | {"type": "su"}}
    for config, room, divisor in ((CONFIGS["phi3"], 512, 1.0), (older, 512, 1.0), (older, 513, 2.0)):
        read = ask("llama.cpp", config, max_length=room).at(room)
        assert read.attention_scale == pytest.approx(SU)
        assert read.inv_freq[0, -1].item() == pytest.approx(5e5 ** (-46 / 48) / divisor)


def test_sglang_switches_after_the_original_length_has_passed() -> None:
    read = ask("sglang", CONFIGS["longrope"])
    same, switched = read.at(513).inv_freq == read.at(512).inv_freq, read.at(514).inv_freq
    assert same.all()
    assert not (switched == read.at(513).inv_freq).all()


def test_vllm_has_rows_for_the_factor_times_the_original_length() -> None:
    assert ask("vllm", LLAMA | {"rope_scaling": YARN | {"factor": 2.0}}).rows == 1024
    assert ask("vllm", CONFIGS["yarn"]).rows is None


REFUSES = [
    ("transformers 5", CONFIGS["unknown"], "'ntk'"),
    ("transformers 5", LLAMA | {"model_type": "mine"}, "'mine'"),
    ("transformers 5", LLAMA | {"rope_scaling": {"rope_type": "linear"}}, "factor"),
    ("transformers 5", LLAMA | {"rope_scaling": LONG | {"long_factor": [1.0] * 31}}, "31"),
    ("transformers 4", CONFIGS["mistral"], "NoneType"),
    ("transformers 4", CONFIGS["phi3, four keys"], "three fields"),
    ("transformers 4", CONFIGS["phi3, linear"], "must be longrope"),
    ("vllm", CONFIGS["phi3, su"], "original_max_position_embeddings"),
    ("tensorrt-llm", CONFIGS["unknown"], "Unsupported"),
    ("tensorrt-llm", scaled({"rope_type": "default"}), "Unsupported"),
    ("vllm", CONFIGS["two names"], "conflicts"),
    ("vllm", LLAMA | {"rope_scaling": {"type": "linear", "factor": 4}}, "factor 4, not 4.0"),
    ("sglang", LLAMA | {"rope_scaling": {"type": "linear", "factor": 4}}, "factor 4, not 4.0"),
    ("vllm", CONFIGS["unknown"], "ntk"),
]


@pytest.mark.parametrize(("name", "config", "word"), REFUSES)
def test_what_a_reader_refuses(name: str, config: dict[str, Any], word: str) -> None:
    with pytest.raises(CannotRead, match=word):
        ask(name, config)


def test_an_engine_refuses_more_than_the_config_allows() -> None:
    for name in ("vllm", "sglang", "tensorrt-llm"):
        with pytest.raises(CannotRead, match="2048"):
            ask(name, CONFIGS["yarn"], max_length=4096)
