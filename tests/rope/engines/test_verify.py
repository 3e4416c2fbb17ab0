"""What is wrong with a folder: healthy ones, faulty ones as people had them, and whether the cures cure."""

import json
from pathlib import Path
from typing import Any

import pytest
from world.folders import HEALTHY, LINEAR8, LLAMA, LONG, ORIGINAL, YARN, scaled, trained, write

from ropewalk.rope import RopeError
from ropewalk.rope.engines import Question, verify_folder
from ropewalk.rope.engines.faults import cure


@pytest.mark.parametrize("name", HEALTHY)
def test_nothing_is_wrong_with_a_healthy_folder(tmp_path: Path, name: str) -> None:
    report = verify_folder(write(tmp_path, HEALTHY[name], {"model_max_length": 131072}))
    assert report.faults == ()
    assert report.verified
    assert all(row.verdict == "exact" for row in report.rows)


@pytest.mark.parametrize(
    "name", ["default", "linear", "ntk", "abf", "yarn", "llama3", "longrope", "resonance", "dynamic"]
)
def test_transformers_reads_our_own(tmp_path: Path, name: str) -> None:
    config, told = trained(name, 2048 if name == "default" else 8192)
    report = verify_folder(write(tmp_path, config, ours=told), engines=["transformers"])
    assert report.faults == ()
    assert report.verified == (name != "dynamic")
    assert report.checks()["trained_frequencies"] is True
    assert report.checks()["frequency_error"] < 1e-6


PHI3 = LLAMA | {"model_type": "phi3", "partial_rotary_factor": 0.75, "pad_token_id": 0, **ORIGINAL}


DCA = {"chunk_size": 512, "local_size": 64, **ORIGINAL}


def ours(**changes: Any) -> dict[str, Any]:
    """Return a folder of ours whose config was changed afterwards, None for a key that was deleted."""
    config, told = trained("yarn", 8192, attention_scale=1.3)
    changed = {key: value for key, value in (config | changes).items() if value is not None}
    return {"config": changed, "ours": told}


def of(config: dict[str, Any], **tokenizer: Any) -> dict[str, Any]:
    return {"config": config, "tokenizer": tokenizer or None}


# the texts of a folder, and of one of its faults: where, value, a word of the cure
FAULTY: dict[str, tuple[dict[str, Any], tuple[str, str, str]]] = {
    "theta is read by version 5 only": (
        of(
            {k: v for k, v in LLAMA.items() if k != "rope_theta"}
            | {"rope_parameters": YARN | {"rope_theta": 1e6}}
        ),
        ("transformers 4.57", "theta 10,000", "rope_theta = 1000000.0"),
    ),
    "theta of dual chunk attention is read by version 5 only": (
        of(
            {k: v for k, v in LLAMA.items() if k != "rope_theta"}
            | {
                "rope_parameters": {"rope_type": "default", "rope_theta": 1e7},
                "dual_chunk_attention_config": DCA,
            }
        ),
        ("transformers 4.57", "theta 10,000", "rope_theta = 10000000.0"),
    ),
    "theta went with the scaling": (
        of({k: v for k, v in LLAMA.items() if k != "rope_theta"} | {"max_position_embeddings": 32768}),
        ("config.rope_theta", "32768", "trained with"),
    ),
    "two names": (of(scaled(YARN | {"type": "linear"})), ("config.rope_type", "'linear'", "delete")),
    "two thetas": (
        of(LLAMA | {"rope_parameters": YARN | {"rope_theta": 1e4}}),
        ("config.rope_theta", "500000", "delete"),
    ),
    "some layers do not turn": (
        of(LLAMA | {"no_rope_layers": [1, 1, 1, 0], "attn_temperature_tuning": True}),
        ("config.no_rope_layers", "[1, 1, 1, 0]", "remove"),
    ),
    "a second key that changes attention": (
        of(LLAMA | {"no_rope_layers": [1, 1, 1, 0], "attn_temperature_tuning": True}),
        ("config.attn_temperature_tuning", "True", "remove"),
    ),
    "the factor leads elsewhere": (of(scaled(YARN | {"factor": 2.0})), ("config.factor", "got 2", "1024")),
    "no original length": (
        of(scaled({"rope_type": "yarn", "factor": 4.0})),
        ("config.original_max_position_embeddings", "2048", "pretraining"),
    ),
    "dynamic on the extended window": (
        of(scaled({"rope_type": "dynamic", "factor": 4.0, **ORIGINAL})),
        ("config.max_position_embeddings", "2048", "write 512"),
    ),
    "an older name of the window says less": (
        of(LLAMA | {"max_sequence_length": 1024}),
        ("config.max_sequence_length", "1024", "write 2048"),
    ),
    "the tokenizer cuts": (of(LLAMA, model_max_length=512), ("tokenizer_config.json", "512", "write 2048")),
    "an engine drops the scale": (
        of(scaled(YARN | {"attention_factor": 1.3})),
        ("sglang", "1.1386 and not 1.3", "attn_factor"),
    ),
    "an engine makes a scale of its own": (
        of(scaled(LONG | {"attention_factor": 1.5})),
        ("vllm", "not 1.5", "long_mscale"),
    ),
    "a whole number": (
        of(scaled({"rope_type": "linear", "factor": 4, **ORIGINAL})),
        ("vllm", "factor 4", "rope_scaling.factor = 4.0"),
    ),
    "mistral without head_dim": (
        of(scaled(YARN, model_type="mistral", sliding_window=4096)),
        ("transformers 4.57", "NoneType", "head_dim = 64"),
    ),
    "an older name of phi3": (
        of(PHI3 | {"rope_scaling": {"type": "su", "short_factor": [1.0] * 24, "long_factor": [2.0] * 24}}),
        ("sglang", "original_max_position_embeddings", 'rope_scaling.type = "longrope"'),
    ),
    "gemma 3 with one set for all layers": (
        of(
            {key: value for key, value in HEALTHY["gemma 3"].items() if "rope" not in key}
            | {"rope_parameters": LINEAR8 | {"rope_theta": 1e6}}
        ),
        ("config.rope_parameters", "factor", "where they were trained"),
    ),
    "generation stops early": (
        {"config": LLAMA, "generation": {"max_length": 512}},
        ("generation_config.json", "512", "write 2048"),
    ),
    "unknown type": (
        of(scaled(YARN | {"rope_type": "ntk"})),
        ("config.rope_type", "'ntk'", "without it"),
    ),
    "scaling of ours is gone": (
        ours(rope_scaling=None, rope_parameters=None),
        ("vllm", "default and not yarn", "rope_"),
    ),
    "our window is gone": (
        ours(max_position_embeddings=2048),
        ("config.max_position_embeddings", "2048", "8192"),
    ),
    "text for an object": (of(scaled("yarn")), ("config.rope_scaling", "'yarn'", "repair")),
    "text for a number": (of(LLAMA, model_max_length="2048"), ("tokenizer_config.json", "'2048'", "repair")),
}


@pytest.mark.parametrize("name", FAULTY)
def test_faults(tmp_path: Path, name: str) -> None:
    texts, (where, value, remedy) = FAULTY[name]
    report = verify_folder(write(tmp_path, **texts))
    assert not report.verified
    found = [fault.rpartition(";") for fault in report.faults if fault.startswith(where)]
    assert any(value in said and remedy in says for said, _, says in found), report.faults


def test_a_published_gemma_leaves_its_heads_and_theta_to_its_class(tmp_path: Path) -> None:
    stated = {"hidden_size": 2560, "num_hidden_layers": 34, "rope_scaling": LINEAR8, "sliding_window": 1024}
    inside = {"model_type": "gemma3_text", **stated}
    report = verify_folder(write(tmp_path, {"model_type": "gemma3", "text_config": inside}))
    assert report.faults == ()
    assert report.trained is not None
    base = report.trained.bases["full_attention"]
    assert (base.query_heads, base.kv_heads, base.head_dim) == (8, 4, 256)
    assert (base.theta, base.trained_length) == (1e6, 131072)


WRITTEN = "must compute what was trained"
CURABLE = [
    "theta of dual chunk attention is read by version 5 only",
    *("theta is read by version 5 only", "an engine drops the scale", "an engine makes a scale of its own"),
    *("a whole number", "mistral without head_dim", "scaling of ours is gone", "an older name of phi3"),
]


@pytest.mark.parametrize("name", CURABLE)
def test_the_cures_cure(tmp_path: Path, name: str) -> None:
    """Written into the config one after the other, they leave nothing to cure."""
    texts, _ = FAULTY[name]
    for _ in range(4):
        faults = [f for f in verify_folder(write(tmp_path, **texts)).faults if WRITTEN in f]
        if not faults:
            break
        texts = texts | {"config": cured(texts["config"], faults[0].rpartition("; write ")[2])}
    assert faults == []


def cured(config: dict[str, Any], changes: str) -> dict[str, Any]:
    """Write `a.b = value, c = value` into a config."""
    config, decoder = json.loads(json.dumps(config)), json.JSONDecoder()
    while changes:
        path, _, rest = changes.partition(" = ")
        value, end = decoder.raw_decode(rest)
        *places, last = path.split(".")
        place = config
        for key in places:
            place = place[key]
        place[last], changes = value, rest[end:].removeprefix(", ")
    return config


def test_a_cure_harms_no_other_reader(tmp_path: Path) -> None:
    """Phi-3 in 4.57 takes three fields, which would take the attention scale from transformers 5."""
    divisors = {"short_factor": [1.0] * 24, "long_factor": [1.0] * 24}
    stated = {"rope_type": "longrope", "attention_factor": 1.5, **divisors}
    config = scaled(
        stated, model_type="phi3", partial_rotary_factor=0.75, sliding_window=None, pad_token_id=0, **ORIGINAL
    )
    report = verify_folder(write(tmp_path, config))
    assert [row.verdict for row in report.rows[:2]] == ["exact", "no"]
    assert not [fault for fault in report.faults if fault.startswith("transformers")]
    wanted = {"rope_scaling": {"type": "longrope", **divisors}}
    assert report.trained is not None
    assert cure(config, wanted, report.trained, report.rows[1].reader, Question()) == []


def test_a_named_engine_must_compute_what_was_trained(tmp_path: Path) -> None:
    config, told = trained("longrope", 8192)
    write(tmp_path, config, ours=told)
    assert verify_folder(tmp_path, engines=["vllm"]).verified
    assert not verify_folder(tmp_path, engines=["llama.cpp"]).verified
    with pytest.raises(RopeError, match=r"engine: .*got ollama; name one"):
        verify_folder(tmp_path, engines=["ollama"])


def test_a_longer_window_than_was_trained(tmp_path: Path) -> None:
    [fault] = verify_folder(write(tmp_path, LLAMA), target_length=4096).faults
    assert fault.startswith("target_length")
    assert "got 4096" in fault


def test_angle_errors_are_those_of_float32_angles(tmp_path: Path) -> None:
    """A float32 angle of up to `length` radians is off by half a unit in its last place, 2^-24 of it."""
    report = verify_folder(write(tmp_path, LLAMA), target_length=512)
    for row in report.rows:
        assert row.trained_error is not None
        assert row.target_error is not None
        assert 2048 * 2**-26 < row.trained_error < 2048 * 2**-22
        assert row.target_error < row.trained_error


@pytest.mark.parametrize("change", [{"knobs": {"beta_fast": 16}}, {"scheme": "yran"}, {"theta": None}])
def test_bad_provenance(tmp_path: Path, change: dict[str, Any]) -> None:
    config, told = trained("yarn", 8192)
    told["rope"] |= change
    report = verify_folder(write(tmp_path, config, ours=told), engines=["transformers"])
    assert any(fault.startswith("ropewalk.json") for fault in report.faults)


@pytest.mark.parametrize(
    ("files", "word"),
    [({}, "no config.json"), ({"config.json": "{"}, "JSON"), ({"config.json": "[]"}, "list")],
)
def test_a_folder_that_is_none(tmp_path: Path, files: dict[str, str], word: str) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(RopeError, match=word):
        verify_folder(tmp_path)
