"""Who serves which scheme, by what config: every scheme against every engine's rules."""

from collections.abc import Callable
from typing import Any

import pytest

from ropewalk.rope import SCHEMES, RopeError, make_scheme
from ropewalk.rope.engines import ENGINES, serving, serving_warnings

DIVISORS = [1 + pair / 4 for pair in range(32)]
SHORT_DIVISORS = [1 + pair / 32 for pair in range(32)]
EVERYWHERE = dict.fromkeys(ENGINES, "exact")
NOT_TENSORRT = EVERYWHERE | {"tensorrt-llm": "difference"}
SHORT = {"factors": DIVISORS, "short_factors": SHORT_DIVISORS}
MATRIX = [
    ("default", {}, EVERYWHERE),
    ("linear", {}, EVERYWHERE),
    ("ntk", {}, EVERYWHERE),
    ("abf", {}, EVERYWHERE),
    ("yarn", {}, EVERYWHERE),
    ("yarn", {"attention_scale": 1.3}, EVERYWHERE),
    ("yarn", {"attention_scale": 1.3, "truncate": False}, NOT_TENSORRT),
    ("llama3", {}, EVERYWHERE),
    ("longrope", {}, EVERYWHERE),
    ("longrope", {"attention_scale": 1.3}, NOT_TENSORRT),
    ("resonance", {}, NOT_TENSORRT),
    ("longrope", SHORT, dict.fromkeys(ENGINES, "difference")),
    ("dynamic", {}, dict.fromkeys(ENGINES, "difference")),
    ("harpe", {}, dict.fromkeys(ENGINES, "no")),
    ("self-extend", {}, dict.fromkeys(ENGINES, "no")),
    ("dca", {}, dict.fromkeys(ENGINES, "no")),
]


@pytest.mark.parametrize(("name", "knobs", "want"), MATRIX)
def test_who_serves_what(make_base: Callable[..., Any], name: str, knobs: Any, want: dict[str, str]) -> None:
    base = make_base(original_length=512)
    length = 512 if name == "default" else 4096
    found = {e: serving(make_scheme(name, **knobs), base, target_length=length, engine=e) for e in ENGINES}
    assert {engine: one.verdict for engine, one in found.items()} == want
    assert all(bool(one.why) == (one.verdict != "exact") for one in found.values())
    assert all((one.config is None) == (one.verdict == "no") for one in found.values())


def test_every_scheme_is_in_the_matrix() -> None:
    assert {name for name, _, _ in MATRIX} == set(SCHEMES)


def test_the_universal_container_is_what_each_engine_wants(make_base: Callable[..., Any]) -> None:
    scheme, base = make_scheme("longrope", attention_scale=1.3), make_base(original_length=512)
    configs = {e: serving(scheme, base, target_length=4096, engine=e).config or {} for e in ENGINES}
    divisors = (base.unscaled() / scheme.frequencies(base, target_length=4096).inv_freq[0]).tolist()
    for engine in ("transformers", "vllm", "sglang"):
        stated = configs[engine]["rope_parameters"]
        assert stated["short_factor"] == stated["long_factor"] == pytest.approx(divisors)
        assert stated["attention_factor"] == 1.3
    assert configs["vllm"]["rope_parameters"]["long_mscale"] == 1.3
    gguf = configs["llama.cpp"]["gguf"]
    assert gguf["tensors"]["rope_freqs.weight"] == pytest.approx(divisors)
    assert gguf["metadata"]["llama.rope.scaling.attn_factor"] == 1.3


def test_llama_cpp_loads_divisors_for_some_models_only(make_base: Callable[..., Any]) -> None:
    scheme, base = make_scheme("longrope"), make_base(original_length=512)
    answer = serving(scheme, base, target_length=4096, engine="llama.cpp", model_type="qwen3")
    assert answer.verdict == "difference"


def test_an_old_version_that_fails_is_a_difference(make_base: Callable[..., Any]) -> None:
    scheme, base = make_scheme("longrope", attention_scale=1.5), make_base(original_length=512)
    found = serving(scheme, base, target_length=4096, engine="transformers", model_type="phi3")
    assert (found.verdict, "only transformers 4.57" in found.why) == ("difference", True)
    assert found.config is not None
    assert found.config["rope_scaling"]["attention_factor"] == 1.5


def test_a_server_is_started_for_the_window(make_base: Callable[..., Any]) -> None:
    found = serving(make_scheme("linear"), make_base(original_length=512), target_length=2048, engine="vllm")
    assert found.flags == ("--max-model-len 2048",)


def test_warnings_before_training(make_base: Callable[..., Any]) -> None:
    bases = {"full_attention": make_base(original_length=512)}
    assert serving_warnings(make_scheme("yarn"), bases, 2048, ENGINES) == []
    [line] = serving_warnings(make_scheme("harpe"), bases, 2048, ["vllm"])
    assert line.startswith("serve: vllm cannot serve")


def test_an_unknown_engine(make_base: Callable[..., Any]) -> None:
    with pytest.raises(RopeError, match=r"engine: .*'ollama'; name one"):
        serving(make_scheme("yarn"), make_base(), target_length=65536, engine="ollama")
