"""Whatever stands in a folder's texts: a report or a RopeError, at once, and both can be printed."""

import io
import json
import os
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from world.folders import HEALTHY, LLAMA, ORIGINAL, scaled, trained, write

from ropewalk.recipes.show.verify import as_values, print_report
from ropewalk.rope import RopeError
from ropewalk.rope.engines import verify_folder

PHI3 = {"type": "longrope", "short_factor": [1.0] * 24, "long_factor": [2.0] * 24}
BASES: dict[str, Any] = {
    **{name: trained(name, 8192) for name in ("yarn", "longrope", "dynamic")},
    **{name: (config, None) for name, config in HEALTHY.items()},
    "images": ({"model_type": "gemma3", "text_config": HEALTHY["gemma 3"]}, None),
    "phi3": (scaled(PHI3, model_type="phi3", partial_rotary_factor=0.75, **ORIGINAL), None),
}
VALUES = [
    *(
        None,
        True,
        False,
        0,
        -1,
        1,
        3,
        4.0,
        0.5,
        16,
        1e30,
        2**63,
        10**300,
        float("nan"),
        float("inf"),
        "",
        "4",
    ),
    *(
        "x",
        "yarn",
        "su",
        "linear",
        "default",
        "llama",
        "phi3",
        "gemma3",
        "t5",
        [],
        [1],
        ["x"],
        [1.0] * 16,
        {},
    ),
    *({"rope_type": "yarn"}, {"full_attention": None, "sliding_attention": {"rope_theta": 1e4}}),
]
KEYS = [
    *("rope_scaling", "rope_parameters", "rope_theta", "type", "factor", "original_max_position_embeddings"),
    *("head_dim", "layer_types", "partial_rotary_factor", "text_config", "num_labels", "num_hidden_layers"),
    *("attention_factor", "mscale", "truncate", "alpha", "model_max_length", "max_length", "format", "rope"),
]


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the way to every value inside one, of a list the first two."""
    keys = value if isinstance(value, dict) else range(min(2, len(value))) if isinstance(value, list) else ()
    for key in keys:
        yield (*path, key)
        yield from places(value[key], (*path, key))


def mutated(value: dict[str, Any], chance: random.Random) -> dict[str, Any]:
    """Put another value into a place, or a key that may be read, or take one out."""
    value, new = json.loads(json.dumps(value)), json.loads(json.dumps(chance.choice(VALUES)))
    *path, last = chance.choice([*places(value), (chance.choice(KEYS),)])
    inside = value
    for key in path:
        inside = inside[key]
    if chance.random() < 0.2 and last in inside:
        del inside[last]
    else:
        inside[last] = new
    return value


@pytest.mark.parametrize("name", BASES)
def test_mutated_texts(tmp_path: Path, name: str) -> None:
    """Thousands of each ran beside the suite."""
    chance, (config, told) = random.Random(name), BASES[name]
    for _ in range(40):
        texts = {"config": config, "tokenizer": {"model_max_length": 131072}, "ours": told}
        for text in chance.sample([text for text in texts if texts[text]], chance.choice((1, 1, 2))):
            texts[text] = mutated(texts[text], chance)
        write(tmp_path, **texts)
        began = time.process_time()
        try:
            report = verify_folder(tmp_path)
        except RopeError:
            continue
        json.dumps(as_values(report))
        print_report(report, Console(file=io.StringIO()))
        assert report.verified or report.faults or report.trained is None
        assert time.process_time() - began < 5


def ours(**changes: Any) -> dict[str, Any]:
    config, told = trained("yarn", 8192)
    return {"config": config, "ours": told | changes}


def rope(**changes: Any) -> dict[str, Any]:
    config, told = trained("yarn", 8192)
    return {"config": config, "ours": told | {"rope": told["rope"] | changes}}


def of(config: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"config": config, **more}


# the texts of a folder, where, the value and a word of what must hold
WRONG: dict[str, tuple[dict[str, Any], str, str, str]] = {
    "text for a number": (
        of(scaled({"type": "linear", "factor": "4"})),
        *("config.rope_scaling.factor", "'4'", "number"),
    ),
    "theta below 1": (of(LLAMA | {"rope_theta": -1}), "config.rope_theta", "-1", "greater than 1"),
    "not a number": (of(LLAMA | {"rope_theta": float("nan")}), "config.rope_theta", "nan", "finite"),
    "2^63 channels": (of(LLAMA | {"hidden_size": 2**63}), "config.hidden_size", str(2**63), "less than"),
    "one head of all": (
        of(LLAMA | {"hidden_size": 2**20, "num_attention_heads": 1}),
        *("config.hidden_size", str(2**20), "times"),
    ),
    "1e30 in a head": (of(LLAMA | {"head_dim": 10**30}), "config.head_dim", "1000", "less than"),
    "1e9 layers": (
        of(LLAMA | {"num_hidden_layers": 10**9}),
        *("config.num_hidden_layers", "1000000000", "less than"),
    ),
    "1e9 labels": (of(LLAMA | {"num_labels": 10**9}), "config.num_labels", "1000000000", "less than"),
    "true for a number": (
        of(LLAMA | {"num_attention_heads": True}),
        *("config.num_attention_heads", "True", "integer"),
    ),
    "a list of text": (
        of(scaled(PHI3 | {"long_factor": ["x"]})),
        *("config.rope_scaling.long_factor[0]", "'x'", "number"),
    ),
    "under a layer type": (
        of(LLAMA | {"rope_parameters": {"full_attention": {"factor": 0}}}),
        *("config.rope_parameters.full_attention.factor", "0", "greater than 0"),
    ),
    "inside a model with images": (
        of({"model_type": "gemma3", "text_config": LLAMA | {"rope_theta": "x"}}),
        *("config.rope_theta", "'x'", "number"),
    ),
    "our theta": (rope(theta="x"), "ropewalk.json rope.theta", "'x'", "number"),
    "our length": (rope(target_length=None), "ropewalk.json rope.target_length", "None", "integer"),
    "our knobs": (rope(knobs=[]), "ropewalk.json rope.knobs", "[]", "object"),
    "another format": (ours(format=9), "ropewalk.json: format", "9", "wrote it"),
    "no rope": (ours(rope=None), "ropewalk.json rope", "None", "object"),
}


@pytest.mark.parametrize("name", WRONG)
def test_values_that_no_reader_is_asked_about(tmp_path: Path, name: str) -> None:
    texts, where, value, word = WRONG[name]
    report = verify_folder(write(tmp_path, **texts))
    assert (report.verified, report.rows) == (False, ())
    found = [fault for fault in report.faults if fault.startswith(where)]
    assert any(value in fault and word in fault for fault in found), report.faults


def test_other_keys_are_their_models_own(tmp_path: Path) -> None:
    others = {"num_local_experts": 0, "num_logits_to_keep": 0, "num_flag": False, "num_a_layer": [2, 4]}
    others |= {"alpha": -1, "type": {}, "sliding_window": 0, "truncate": "left"}
    report = verify_folder(write(tmp_path, LLAMA | others | {"model_type": "qwen2"}))
    assert report.rows


@pytest.mark.parametrize("content", ["{", "{}", None], ids=["cut off", "no model", "a pipe"])
def test_a_tokenizer_loads(tmp_path: Path, content: str | None) -> None:
    file = write(tmp_path, LLAMA) / "tokenizer.json"
    assert verify_folder(tmp_path).verified
    os.mkfifo(file) if content is None else file.write_text(content)
    [fault] = verify_folder(tmp_path).faults
    assert fault.startswith("tokenizer.json: must be")


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json", "generation_config.json"])
def test_a_pipe_is_no_text(tmp_path: Path, name: str) -> None:
    write(tmp_path, LLAMA)
    (tmp_path / name).unlink(missing_ok=True)
    os.mkfifo(tmp_path / name)
    with pytest.raises(RopeError, match=rf"{name}: must be a file"):
        verify_folder(tmp_path)
