"""Which window was pretrained: stated, or named as a guess that nothing new is computed from."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ropewalk.rope import (
    FULL,
    SCHEMES,
    NotExpressible,
    RopeError,
    config_fields,
    install,
    make_scheme,
    read_base,
)
from ropewalk.rope.analysis import analyse
from ropewalk.rope.engines import ENGINES, serving, verify_folder
from ropewalk.train.model import load_model

HEADS = {"hidden_size": 512, "num_attention_heads": 8, "num_key_value_heads": 2, "num_hidden_layers": 6}
LLAMA: dict[str, Any] = {"model_type": "llama", "rope_theta": 1e4, "max_position_embeddings": 32768, **HEADS}
GEMMA = LLAMA | {"model_type": "gemma3_text", "head_dim": 64, "sliding_window": 1024, "rope_theta": 1e6}
DIVISORS = {"short_factor": [1.0] * 32, "long_factor": [4.0] * 32}
LLAMA3 = {"low_freq_factor": 1.0, "high_freq_factor": 4.0}


def scaled(kind: str, factor: Any = 4.0, **more: Any) -> dict[str, Any]:
    stated = {"rope_type": kind, "factor": factor} | more
    return LLAMA | {"rope_scaling": {key: value for key, value in stated.items() if value is not None}}


def newer(kind: str, factor: Any = 4.0, **more: Any) -> dict[str, Any]:
    """Return a config that has transformers 5's layout too, where a length may be filled in."""
    config = scaled(kind, factor, **more)
    return config | {"rope_parameters": config["rope_scaling"] | {"rope_theta": 1e4}}


# configs of a scaled model that say no original length, and what it may be
UNSTATED = {
    "LLaMA-2-7B-32K": (scaled("linear", 8.0), [32768, 4096]),
    "Gemma-3-4B": (
        GEMMA | {"max_position_embeddings": 131072, "rope_scaling": {"rope_type": "linear", "factor": 8.0}},
        [131072, 16384, 32768],
    ),
    "dynamic": (scaled("dynamic"), [32768, 8192]),
    "yarn": (scaled("yarn"), [32768, 8192]),
    "yarn, filled in by transformers": (
        newer("yarn", original_max_position_embeddings=32768), [32768, 8192],
    ),
    "yarn without a factor": (scaled("yarn", None), [32768]),
    "llama3": (scaled("llama3", 8.0, **LLAMA3), [32768, 4096]),
    "longrope": (scaled("longrope", **DIVISORS), [32768, 8192]),
    "longrope without a factor, filled in": (
        newer("longrope", None, original_max_position_embeddings=32768, **DIVISORS), [32768],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", UNSTATED)
class TestUnstated:
    def test_it_is_a_guess(self, name: str) -> None:
        config, may_be = UNSTATED[name]
        base = read_base(config)[FULL]
        assert [guess.length for guess in base.guesses] == may_be
        assert (base.original_length, base.stated_length) == (may_be[0], None)

    def test_as_it_is_it_is_read_and_written(self, name: str) -> None:
        config, may_be = UNSTATED[name]
        bases = read_base(config)
        base = bases[FULL]
        base.current.frequencies(base, target_length=base.trained_length)
        written = config_fields(config, bases, base.current, target_length=base.trained_length)
        stated = written["rope_parameters"]
        assert "original_max_position_embeddings" not in stated.get(FULL, stated)
        assert [guess.length for guess in read_base(written)[FULL].guesses] == may_be

    @pytest.mark.parametrize("scheme", sorted(SCHEMES))
    def test_no_scheme_computes_from_it(self, name: str, scheme: str) -> None:
        """Neither longer nor replaced, by knobs that need no original length either."""
        config, may_be = UNSTATED[name]
        bases = read_base(config)
        base, made = bases[FULL], make_scheme(scheme, **{"theta": 1e7} if scheme == "abf" else {})
        as_it_is = base.current.frequencies(base, target_length=base.trained_length)
        longer: Any = {"target_length": 1 << 18}
        for compute in (
            lambda: made.frequencies(base, **longer),
            lambda: base.current.frequencies(base, **longer),
            lambda: config_fields(config, bases, made, **longer),
            lambda: serving(made, base, engine=ENGINES[0], **longer),
            lambda: analyse(as_it_is, base, **longer),
        ):
            with pytest.raises(RopeError, match=r"original_max_.*; state original_length") as said:
                compute()
            assert all(str(length) in str(said.value) for length in may_be)

    def test_stated_by_the_caller_it_is_none(self, name: str) -> None:
        base = read_base(UNSTATED[name][0], original_length=2048)[FULL]
        assert (base.stated_length, base.guesses) == (2048, ())
        make_scheme("yarn").frequencies(base, target_length=1 << 18)

    def test_verify_names_all_readings(self, name: str, tmp_path: Path) -> None:
        config, may_be = UNSTATED[name]
        (tmp_path / "config.json").write_text(json.dumps(config))
        report = verify_folder(tmp_path)
        assert report.trained is not None
        assert [guess.length for guess in report.trained.bases[FULL].guesses] == may_be
        # readers of the other types take the extended window for it: a fault where nothing is there at all
        kind = config["rope_scaling"]["rope_type"]
        assert report.verified == (kind in ("linear", "dynamic") or name == "yarn, filled in by transformers")
        assert not any(fault.startswith("config.factor") for fault in report.faults)


QWEN = {"model_type": "qwen2", "rope_theta": 1e6}
CARD = {"original_max_position_embeddings": 32768}
KNOWN = {
    "rope_scaling alone was written by a person": scaled("yarn", **CARD),
    "longrope, alone": scaled("longrope", None, **CARD, **DIVISORS),
    "Qwen2.5's model card": scaled("yarn", **CARD) | QWEN,
    "Qwen2.5's model card, saved again": LLAMA | QWEN
    | {"rope_parameters": {"rope_type": "yarn", "factor": 4.0, "rope_theta": 1e6, **CARD}},
}  # fmt: skip


@pytest.mark.parametrize("name", KNOWN)
def test_a_length_that_equals_the_window_and_was_not_filled_in(name: str, tmp_path: Path) -> None:
    base = read_base(KNOWN[name])[FULL]
    assert (base.stated_length, base.guesses) == (32768, ())
    make_scheme("yarn").frequencies(base, target_length=1 << 18)
    bases = read_base(KNOWN[name])
    written = config_fields(KNOWN[name], bases, base.current, target_length=base.trained_length)
    assert read_base(written)[FULL].stated_length == 32768  # in both layouts, and still no guess


def test_the_caller_knows_better_than_a_model_card() -> None:
    saved = KNOWN["Qwen2.5's model card, saved again"]
    assert read_base(saved, original_length=8192)[FULL].stated_length == 8192


def test_a_loaded_model_still_says_what_its_file_states(make_model: Any, tmp_path: Path) -> None:
    """Its class fills in the same key in the same place."""
    yarn = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 256}
    make_model(rope_scaling=yarn).save_pretrained(tmp_path)
    written = json.loads((tmp_path / "config.json").read_text())
    assert read_base(written)[FULL].guesses
    written |= {"rope_scaling": yarn, "rope_theta": written.pop("rope_parameters")["rope_theta"]}
    (tmp_path / "config.json").write_text(json.dumps(written))
    assert read_base(load_model(tmp_path).config)[FULL].stated_length == 256


def test_install_keeps_it_as_it_is_and_asks_before_it_is_replaced(make_model: Any) -> None:
    model = make_model(rope_scaling={"rope_type": "linear", "factor": 4.0})
    install(model)
    assert "original_max_position_embeddings" not in model.config.rope_parameters
    with pytest.raises(RopeError, match=r"256 .* or 64 .*; state original_length"):
        install(model, make_scheme("yarn"), target_length=512, replace=True)
    install(model, make_scheme("yarn"), target_length=512, replace=True, original_length=64)
    assert model.config.rope_parameters["factor"] == 8
    assert model.config.rope_parameters["original_max_position_embeddings"] == 64


STATED = {
    "llama": LLAMA,
    "LLaMA-2-7B-32K, stated": UNSTATED["LLaMA-2-7B-32K"][0],
    "mistral": LLAMA | {"model_type": "mistral", "sliding_window": None},
    "qwen2": LLAMA | {"model_type": "qwen2"},
    "qwen3": LLAMA | {"model_type": "qwen3", "head_dim": 64},
    "phi3": LLAMA | {"model_type": "phi3", "pad_token_id": 0},
    "phi3, part of a head": LLAMA | {"model_type": "phi3", "pad_token_id": 0, "partial_rotary_factor": 0.75},
    "gemma3": GEMMA | {"rope_local_base_freq": 1e4},
    "Gemma-3-4B, stated": UNSTATED["Gemma-3-4B"][0],
}


@pytest.mark.parametrize("kind", STATED)
@pytest.mark.parametrize("name", sorted(SCHEMES))
def test_our_own_export_says_it(tmp_path: Path, kind: str, name: str) -> None:
    """Written, read again and verified without what a run would tell beside it."""
    config, lengths = STATED[kind], {"original_length": 4096} if "stated" in kind else {}
    bases, scheme = read_base(config, **lengths), make_scheme(name)
    target = bases[FULL].original_length if name == "default" else 4 * bases[FULL].trained_length
    try:
        written = config_fields(config, bases, scheme, target_length=target)
    except NotExpressible:
        return
    (tmp_path / "config.json").write_text(json.dumps(written))
    again = read_base(written)
    assert all(base.guesses == () for base in again.values())
    for layer_type, base in again.items():
        was, end = bases[layer_type], again[FULL].trained_length
        given, window = (scheme, target) if layer_type == FULL else (was.current, was.trained_length)
        want = given.frequencies(was, target_length=window, length=end)
        got = base.current.frequencies(base, target_length=end, length=end)
        np.testing.assert_allclose(got.inv_freq, want.inv_freq, rtol=1e-12)
        assert got.attention_scale == pytest.approx(want.attention_scale, rel=1e-12)
    assert verify_folder(tmp_path).faults == ()
