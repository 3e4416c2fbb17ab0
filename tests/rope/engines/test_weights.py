"""What the headers of weight files tell, before any tensor is read."""

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM

from ropewalk.rope.engines import missing_weights, verify_folder, weight_problems
from ropewalk.rope.engines.weights import misfits, read_weights
from ropewalk.rope.families import SUPPORTED

TINY = Path(__file__).parents[3] / "recipes/library/assets/tiny-base"
ONE, INDEX = "model.safetensors", "model.safetensors.index.json"


@pytest.fixture(scope="module")
def tensors() -> dict[str, torch.Tensor]:
    return load_file(TINY / "model.safetensors")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("config.json", "ropewalk.json", "model.safetensors"):
        (tmp_path / name).write_bytes((TINY / name).read_bytes())
    return tmp_path


def test_whole_weights_have_no_problem(folder: Path) -> None:
    assert weight_problems(folder) == []
    assert verify_folder(folder).verified


def without(*names: str, **more: Any) -> Callable[[Path, dict[str, torch.Tensor]], None]:
    """Return what saves all tensors but some, and more."""

    def change(folder: Path, tensors: dict[str, torch.Tensor]) -> None:
        kept = {name: tensor for name, tensor in tensors.items() if not name.endswith(names or "\0")}
        save_file(kept | more, folder / "model.safetensors")

    return change


def config(**fields: Any) -> Callable[[Path, dict[str, torch.Tensor]], None]:
    """Return what writes other fields into the config."""

    def change(folder: Path, _: dict[str, torch.Tensor]) -> None:
        file = folder / "config.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | fields))

    return change


def bytes_of(content: Callable[[bytes], bytes]) -> Callable[[Path, dict[str, torch.Tensor]], None]:
    def change(folder: Path, _: dict[str, torch.Tensor]) -> None:
        file = folder / "model.safetensors"
        file.write_bytes(content(file.read_bytes()))

    return change


def in_parts(index: Any, *files: str) -> Callable[[Path, dict[str, torch.Tensor]], None]:
    """Return what puts an index in the place of the one file, and that file under other names."""

    def change(folder: Path, _: dict[str, torch.Tensor]) -> None:
        whole = (folder / "model.safetensors").rename(folder / "whole")
        for name in files:
            shutil.copy(whole, folder / name)
        (folder / INDEX).write_text(json.dumps(index))

    return change


NORM = "model.norm.weight"
LAYER = "layers.1.self_attn.k_proj.weight"
ENDS = (
    *("input_layernorm.weight", "post_attention_layernorm.weight"),
    *(f"self_attn.{part}_proj.weight" for part in "qkvo"),
    *(f"mlp.{part}_proj.weight" for part in ("gate", "up", "down")),
)
# what is done to a whole folder, where that is found, and a word of what is said
SPOILT: dict[str, tuple[Any, str, str]] = {
    "cut off": (bytes_of(lambda whole: whole[:-1000]), "model.safetensors", "fetch"),
    "longer than told": (bytes_of(lambda whole: whole + b"0"), "model.safetensors", "fetch"),
    "a pointer": (bytes_of(lambda _: b"version https://git-lfs.github.com/spec/v1\n"), "model.safe", "lfs"),
    "nothing in it": (bytes_of(lambda _: b""), "model.safetensors", "0 bytes"),
    "a header without end": (bytes_of(lambda _: b"\xff" * 64), "model.safetensors", "header"),
    "no tensors": (bytes_of(lambda _: b"\x02" + bytes(7) + b"{}"), "weights", "neither"),
    "an empty tensor": (without(empty=torch.zeros(0, 3)), "weights", "empty"),
    "a layer lacks a tensor": (without(LAYER), "weights", LAYER),
    "of two layers one": (
        lambda folder, tensors: (
            config(num_hidden_layers=2)(folder, tensors),
            without(LAYER, *(f"layers.2.{name}" for name in ENDS))(folder, tensors),
        ),
        *("weights: must hold", LAYER),
    ),
    "no norm": (without(NORM), "weights: must hold norm.weight", "random"),
    "more layers": (config(num_hidden_layers=4), "weights", "config.num_hidden_layers = 4"),
    "another vocabulary": (config(vocab_size=1000), "weights: embed_tokens", "1000 x 256"),
    "another head": (config(head_dim=64), "weights: self_attn.q_proj", "512 x 256"),
    "other kv heads": (config(num_key_value_heads=2), "weights: self_attn.k_proj", "64 x 256"),
    "not tied": (config(tie_word_embeddings=False), "weights: must hold lm_head.weight", "random"),
    "no layer has one": (without("mlp.up_proj.weight"), "weights: must hold layers.0.mlp.up_proj", "random"),
    "no layer has a norm": (without("input_layernorm.weight"), "weights: must hold layers.0.input", "random"),
    "no layers": (without(*ENDS), "weights: must be those of", "3 layers, got 0"),
    "no biases": (config(attention_bias=True), "weights: must hold layers.0.self_attn.k_proj.bias", "9 more"),
    "a bias": (
        without(**{f"model.{LAYER[:-6]}bias": torch.zeros(128)}),
        "weights: must hold in",
        "leave out",
    ),
    "another width inside": (config(intermediate_size=100), "weights: mlp.down_proj", "256 x 100"),
    "whole numbers": (
        lambda folder, tensors: without(**{f"model.{LAYER}": tensors[f"model.{LAYER}"].to(torch.int8)})(
            folder, tensors
        ),
        *("weights: must be of", "I8"),
    ),
    "a pipe": (
        lambda folder, _: ((folder / ONE).unlink(), os.mkfifo(folder / ONE)),
        *(ONE, "no file"),
    ),
    "an index that is a pipe": (
        lambda folder, _: ((folder / ONE).unlink(), os.mkfifo(folder / INDEX)),
        *(INDEX, "pipe"),
    ),
    "an index to nothing": (in_parts({"weight_map": {NORM: "a.safetensors"}}), "a.safetensors", "no file"),
    "a wrong index": (in_parts({"weight_map": {"x": "a"}}, "a"), "a: must hold", "got no x"),
    "an index of a list": (in_parts([]), INDEX, "JSON"),
    "an index of numbers": (in_parts({"weight_map": {"x": 5}}), "5", "no file"),
}


@pytest.mark.parametrize("name", SPOILT)
def test_spoilt_weights(folder: Path, tensors: dict[str, torch.Tensor], name: str) -> None:
    """A fault of the folder, and a problem of whoever would load it."""
    change, where, word = SPOILT[name]
    change(folder, tensors)
    problems = [*weight_problems(folder), *missing_weights(folder)]
    assert any(problem.startswith(where) and word in problem for problem in problems), problems
    report = verify_folder(folder)
    assert set(weight_problems(folder)) <= set(report.faults)
    assert report.verified == (word == "neither")  # a folder of texts alone can be verified


def test_pickles_are_named_and_not_opened(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(b"not even a pickle")
    report = verify_folder(folder)
    assert (report.verified, weight_problems(folder)) == (True, [])
    assert "pytorch_model.bin" in report.notes[0]


def test_what_an_unknown_model_holds_is_its_own(folder: Path, tensors: Any) -> None:
    without(NORM, "q_proj.weight")(folder, tensors)
    config(model_type="mine")(folder, tensors)
    assert weight_problems(folder) == []


def test_a_quantised_model_is_read_and_not_computed_with(folder: Path, tensors: Any) -> None:
    without(NORM, "q_proj.weight")(folder, tensors)
    config(quantization_config={"quant_method": "gptq", "bits": 4})(folder, tensors)
    report, [problem] = verify_folder(folder), weight_problems(folder)
    assert (report.verified, "gptq" in report.notes[0]) == (True, True)
    assert "gptq; take the model that is not quantised" in problem


SIZES = {"vocab_size": 50, "hidden_size": 48, "intermediate_size": 80, "num_hidden_layers": 2}
HEADS = {"num_attention_heads": 6, "num_key_value_heads": 2, "pad_token_id": 0}


@pytest.mark.parametrize("model_type", SUPPORTED)
@pytest.mark.parametrize("more", [{}, {"head_dim": 16}, {"attention_bias": True, "mlp_bias": True}], ids=str)
def test_what_transformers_saves_fits(model_type: str, more: Any, tmp_path: Path) -> None:
    """In one file or in parts, with the head or without it; and nothing may be taken out of it."""
    made = AutoConfig.for_model(model_type, **SIZES, **HEADS, **more)
    model = AutoModelForCausalLM.from_config(made)
    model.save_pretrained(tmp_path, max_shard_size="40KB")
    assert (tmp_path / INDEX).exists()
    assert weight_problems(tmp_path) == []
    weights = read_weights(tmp_path)
    for name in weights.shapes:
        others = {other: shape for other, shape in weights.shapes.items() if other != name}
        assert any(misfits(replace(weights, shapes=others), model.config.to_dict())), name
        other = {**weights.shapes, name: (*weights.shapes[name][:-1], 7)}
        assert any(misfits(replace(weights, shapes=other), model.config.to_dict())), name


@pytest.mark.parametrize("prefix", ["", "model.", "language_model.model.", "model.language_model."])
def test_names_with_other_beginnings_fit(folder: Path, tensors: Any, prefix: str) -> None:
    """The tower of one that sees images, and angles that old checkpoints keep, are no one's fault."""
    named = {prefix + name.removeprefix("model."): tensor for name, tensor in tensors.items()}
    named |= {f"{prefix}layers.0.self_attn.rotary_emb.inv_freq": torch.ones(4)}
    named |= {"vision_tower.vision_model.encoder.layers.7.self_attn.q_proj.weight": torch.ones(2, 2)}
    save_file(named, folder / ONE)
    assert weight_problems(folder) == []


@pytest.mark.parametrize("key", ["quantization_config", "tie_word_embeddings"])
def test_what_a_model_with_parts_says_of_its_weights_is_read(folder: Path, tensors: Any, key: str) -> None:
    """Its tied head need not be there, and quantised tensors are no faults."""
    inside = json.loads((folder / "config.json").read_text()) | {"tie_word_embeddings": False}
    whole = {"model_type": "mistral3", "text_config": inside, key: {"bits": 4} if key[0] == "q" else True}
    (folder / "config.json").write_text(json.dumps(whole))
    (folder / "ropewalk.json").unlink()
    save_file({f"language_{name}": tensor for name, tensor in tensors.items()}, folder / ONE)
    assert verify_folder(folder).faults == ()
