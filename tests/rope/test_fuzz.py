"""Published configs, changed at random, are refused by name or read as transformers reads them."""

import copy
import json
import random
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from ropewalk.rope import SCHEMES, Base, Frequencies, RopeError, config_fields, make_scheme, read_base
from ropewalk.rope.analysis import frequency_error, scale_error
from ropewalk.rope.engines import CannotRead, Question, verify_folder
from ropewalk.rope.engines.transformers import ASKED

Config = dict[str, Any]


def heads(width: int, query: int, kv: int, layers: int, window: int, **more: Any) -> Config:
    return {
        "hidden_size": width, "num_attention_heads": query, "num_key_value_heads": kv,
        "num_hidden_layers": layers, "max_position_embeddings": window, **more,
    }  # fmt: skip


LLAMA3 = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "rope_type": "llama3"}
YARN = {"factor": 4.0, "original_max_position_embeddings": 32768, "type": "yarn"}
DIVISORS = {
    "short_factor": [1 + pair / 96 for pair in range(48)],
    "long_factor": [1 + pair * pair / 40 for pair in range(48)],
}
GEMMA = heads(2560, 8, 4, 34, 131072, head_dim=256, sliding_window=1024, model_type="gemma3_text")
# what the Hub has, and what transformers 5 saves
PUBLISHED: dict[str, Config] = {
    "Llama-2-7B": heads(4096, 32, 32, 32, 4096, model_type="llama"),
    "LLaMA-2-7B-32K": heads(4096, 32, 32, 32, 32768, model_type="llama")
    | {"rope_scaling": {"factor": 8.0, "type": "linear"}},
    "Llama-3.1-8B": heads(4096, 32, 8, 32, 131072, model_type="llama", rope_theta=500000.0)
    | {"rope_scaling": LLAMA3 | {"original_max_position_embeddings": 8192}},
    "dynamic": heads(4096, 32, 32, 32, 4096, model_type="llama", rope_theta=10000.0)
    | {"rope_scaling": {"factor": 2.0, "rope_type": "dynamic"}},
    "Mistral-7B-v0.3": heads(4096, 32, 8, 32, 32768, model_type="mistral", rope_theta=1e6)
    | {"sliding_window": None, "head_dim": 128},
    "Phi-3-mini-4k": heads(3072, 32, 32, 32, 4096, model_type="phi3", rope_theta=10000.0)
    | {"sliding_window": 4096, "pad_token_id": 0},
    "Phi-3-mini-128k": heads(3072, 32, 32, 32, 131072, model_type="phi3", rope_theta=10000.0)
    | {"rope_scaling": DIVISORS | {"type": "longrope"}, "original_max_position_embeddings": 4096}
    | {"pad_token_id": 0},
    "Phi-3-mini-128k, saved by 5": heads(3072, 32, 32, 32, 131072, model_type="phi3", pad_token_id=0)
    | {"original_max_position_embeddings": 4096}
    | {"rope_parameters": DIVISORS | {"rope_type": "longrope", "rope_theta": 1e4}},
    "Qwen2.5-7B": heads(3584, 28, 4, 28, 131072, model_type="qwen2", rope_theta=1e6)
    | {"use_sliding_window": False, "sliding_window": 131072, "max_window_layers": 28},
    "Qwen2.5-7B, yarn": heads(3584, 28, 4, 28, 131072, model_type="qwen2", rope_theta=1e6)
    | {"rope_scaling": YARN},
    "Qwen3-8B, saved by 5": heads(4096, 32, 8, 36, 131072, model_type="qwen3", head_dim=128)
    | {"rope_parameters": YARN | {"rope_type": "yarn", "rope_theta": 1e6}},
    "Gemma-3-4B": GEMMA | {"rope_theta": 1e6, "rope_local_base_freq": 1e4}
    | {"rope_scaling": {"factor": 8.0, "rope_type": "linear"}},
    "Gemma-3-4B, saved by 5": GEMMA
    | {
        "rope_parameters": {
            "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6},
            "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
        }
    },
}  # fmt: skip
ODD: list[Any] = [
    None, True, False, 0, 1, -1, 2, 7, 4096, 2**31, 2**63, 10**30, 10**400, 0.0, 0.5, 1.0, -2.5, 8.0, 1e-300,
    1e300, float("nan"), float("inf"), float("-inf"), "", "8", "yarn", "default", "linear", "dynamic",
    "longrope", "su", "llama3", "full_attention", [], [1.0], [None], ["sliding_attention"], {}, {"a": 1},
    {"rope_type": "yarn"}, {"full_attention": None}, {"full_attention": {"rope_theta": 1e4}}, [1.0] * 48,
    [2.0] * 64, [10**400] * 48,
]  # fmt: skip
TOP = [
    "model_type", "hidden_size", "num_attention_heads", "num_key_value_heads", "head_dim",
    "num_hidden_layers", "max_position_embeddings", "original_max_position_embeddings", "sliding_window",
    "use_sliding_window", "layer_types", "rope_theta", "rope_local_base_freq", "partial_rotary_factor",
    "rope_parameters", "rope_scaling", "attn_logit_softcapping", "use_bidirectional_attention",
]  # fmt: skip
ROPE = [
    "rope_type", "type", "rope_theta", "factor", "original_max_position_embeddings", "attention_factor",
    "beta_fast", "beta_slow", "mscale", "mscale_all_dim", "truncate", "low_freq_factor", "high_freq_factor",
    "short_factor", "long_factor", "partial_rotary_factor", "full_attention", "sliding_attention", "other",
]  # fmt: skip


def objects(config: Config) -> Iterator[tuple[Config, list[str]]]:
    """Yield the objects of a config with the keys that may stand in them."""
    yield config, TOP
    for layout in ("rope_parameters", "rope_scaling"):
        if isinstance(stated := config.get(layout), dict):
            yield stated, ROPE
            yield from ((nested, ROPE) for nested in stated.values() if isinstance(nested, dict))


def mutated(draw: random.Random) -> Config:
    """Return a published config with one to three things wrong, or only other than they were."""
    config = copy.deepcopy(draw.choice(list(PUBLISHED.values())))
    for _ in range(draw.choice((1, 1, 2, 3))):
        place, keys = draw.choice(list(objects(config)))
        key = draw.choice([*keys, *place, *place])
        how = draw.choice(("drop", "odd", "odd", "scale", "scale", "text", "nest", "copy", "move"))
        if how == "drop":
            place.pop(key, None)
        elif how == "odd":
            place[key] = copy.deepcopy(draw.choice(ODD))
        elif how == "scale" and isinstance(place.get(key), int | float):
            place[key] *= draw.choice((-1, 2, 2, 4, 3, 0.5, 1e6))
        elif how == "text":
            place[key] = str(place.get(key))
        elif how == "nest":
            place[key] = {draw.choice(ROPE): copy.deepcopy(place.get(key))}
        elif how in ("copy", "move"):
            here, there = draw.sample(("rope_parameters", "rope_scaling"), 2)
            if isinstance(config.get(here), dict):
                config[there] = copy.deepcopy(config[here] if how == "copy" else config.pop(here))
    return config


def lengths(base: Base) -> list[int]:
    """Return tokens below, at and above the original window, and at the end."""
    return [1, base.original_length, base.original_length + 1, base.trained_length]


def turned(base: Base, at: Iterable[int]) -> list[Frequencies]:
    """Return what a model turns by as it is."""
    trained = base.trained_length
    return [base.current.frequencies(base, target_length=trained, length=length) for length in at]


def same(some: Iterable[Frequencies], others: Iterable[Frequencies], within: float) -> bool:
    pairs = list(zip(some, others, strict=True))
    return all(frequency_error(*pair) <= within and scale_error(*pair) <= within for pair in pairs)


def said_elsewhere(config: Config, base: Base) -> bool:
    """Say whether verify faults it, dynamic scaling from a length that transformers does not read, or install
    refuses it too, a part of each head, which Gemma's rotary module does not turn."""
    if base.current.name == "dynamic" and base.original_length != base.trained_length:
        return True
    return base.rotary_dim != base.head_dim and config["model_type"] == "gemma3_text"


def check_transformers_agrees(config: Config, bases: Mapping[str, Base]) -> bool:
    """Compare with what the installed transformers reads, and say whether it reads at all."""
    try:
        read = {name: ASKED.ask(config, Question(layer_type=name)) for name in bases}
    except CannotRead:
        return False
    for name, base in bases.items():
        theirs = [read[name].at(length) for length in lengths(base)]
        # A dynamic factor of millions loses its last digits in transformers' float32.
        within = 3e-5 + 1e-9 * (getattr(base.current, "factor", None) or 1)
        ours = turned(base, lengths(base))
        assert said_elsewhere(config, base) or same(theirs, ours, within), (config, base)
        assert read[name].window == base.trained_length, config
    return True


def check_written_again(config: Config, bases: Mapping[str, Base]) -> None:
    """What is written of a model as it is reads as the same, and a guess stays one."""
    base = bases["full_attention"]
    written = config_fields(config, bases, base.current, target_length=base.trained_length)
    again = read_base(json.loads(json.dumps(written)))
    for name in bases:
        at = lengths(bases[name])
        assert same(turned(again[name], at), turned(bases[name], at), 1e-9), config
        guessed = [[length for length, _ in each[name].guesses] for each in (again, bases)]
        assert guessed[0] == guessed[1], config


def check_mutations(count: int, seed: int, *, asked_one_in: int) -> None:
    draw, read, compared, cured = random.Random(seed), 0, 0, list[bool]()
    for index in range(count):
        config = mutated(draw)
        began = time.process_time()
        try:
            bases = read_base(config)
        except RopeError as error:
            cured.append("; " in str(error))
            continue
        finally:
            assert time.process_time() - began < 1, config
        read += 1
        check_written_again(config, bases)
        if index % asked_one_in == 0:
            compared += check_transformers_agrees(config, bases)
    assert all(cured)
    # neither all refused nor all taken
    assert count / 5 < read < count / 2
    assert compared > count / asked_one_in / 6


def test_a_changed_config_is_refused_or_right() -> None:
    check_mutations(2000, 0, asked_one_in=2)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 5))
def test_many_changed_configs_are_refused_or_right(seed: int) -> None:
    check_mutations(5000, seed, asked_one_in=1)


@pytest.mark.parametrize("name", PUBLISHED)
def test_unchanged_they_are_read(name: str) -> None:
    bases = read_base(PUBLISHED[name])
    check_written_again(PUBLISHED[name], bases)
    assert check_transformers_agrees(PUBLISHED[name], bases)


def test_a_folder_with_a_changed_config_is_reported(tmp_path: Path) -> None:
    draw, verified = random.Random(0), 0
    for _ in range(100):
        (tmp_path / "config.json").write_text(json.dumps(mutated(draw)))
        verified += verify_folder(tmp_path).verified
    assert 5 < verified < 50


@pytest.mark.parametrize("name", sorted(SCHEMES))
def test_odd_knobs_are_refused_or_computed_from(name: str) -> None:
    base, taken = read_base(PUBLISHED["Llama-2-7B"])["full_attention"], 0
    for knob in make_scheme(name).knobs:
        for value in [*ODD, 1e39, 1.0000001, 63, {"kind": "yarn"}, [1e39] * 64]:
            try:
                made = make_scheme(name, **{knob: copy.deepcopy(value)})
                frequencies = made.frequencies(base, target_length=1 << 30)
                made.to_hf(base, target_length=1 << 30)
            except RopeError:
                continue
            taken += 1
            assert len(frequencies.fingerprint) == 64
    assert taken or not make_scheme(name).knobs or name in ("harpe", "self-extend", "dca")
