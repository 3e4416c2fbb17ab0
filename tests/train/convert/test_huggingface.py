"""A converted checkpoint is the model that was trained, and nothing else is given a name."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM
from world.packs import MemoryPlan
from world.training import run

from ropewalk.rope import RopeError
from ropewalk.rope.engines import verify_folder
from ropewalk.train import TrainError
from ropewalk.train.convert.huggingface import convert


@pytest.fixture
def trained(straight: tuple[Path, str]) -> Path:
    return straight[0]


def test_plain_transformers_loads_what_was_trained(trained: Path, tmp_path: Path) -> None:
    report = convert(trained, tmp_path / "out")
    assert report.verified
    assert report.max_logit_difference <= 1e-4
    assert report.checks["frequency_error"] < 1e-6
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    source = load_file(trained / "checkpoints" / "step-000004" / "model.safetensors")
    assert all(torch.equal(source[name], p) for name, p in model.named_parameters())


def test_both_config_layouts_say_the_same(trained: Path, tmp_path: Path) -> None:
    convert(trained, tmp_path / "out")
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["rope_theta"] == config["rope_parameters"]["rope_theta"] == 10000.0
    assert config["rope_scaling"]["rope_type"] == config["rope_parameters"]["rope_type"] == "yarn"
    assert config["rope_scaling"]["factor"] == config["rope_parameters"]["factor"] == 2
    assert config["max_position_embeddings"] == 64
    tokenizer = json.loads((tmp_path / "out" / "tokenizer_config.json").read_text())
    assert tokenizer["model_max_length"] == 64


def test_a_cast_is_written_and_said(trained: Path, tmp_path: Path) -> None:
    assert convert(trained, tmp_path / "out", dtype="bfloat16").verified
    assert {t.dtype for t in load_file(tmp_path / "out" / "model.safetensors").values()} == {torch.bfloat16}
    assert AutoConfig.from_pretrained(tmp_path / "out").dtype == torch.bfloat16


@pytest.mark.parametrize("kind", ["ntk", "abf"])
def test_a_theta_that_was_derived_is_not_raised_again(
    straight: tuple[Path, str], ranks: Any, tmp_path: Path, kind: str
) -> None:
    ranks(1)(run, str(tmp_path / "run"), straight[1], -1, {"kind": kind, "steps": 2}, MemoryPlan())
    assert convert(tmp_path / "run", tmp_path / "out").checks["trained_frequencies"]


def spoil(folder: Path, name: str, **fields: Any) -> None:
    """Write other fields into a text of a checkpoint; `rope` is merged into what stands there."""
    file = folder / name
    values = json.loads(file.read_text()) if file.exists() else {}
    nested = {key: values.get(key, {}) | value for key, value in fields.items() if isinstance(value, dict)}
    file.write_text(json.dumps(values | fields | nested))


def weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], Any]) -> None:
    file = folder / "model.safetensors"
    tensors = load_file(file)
    change(tensors)
    save_file(tensors, file, metadata={"format": "pt"})


def scale_of(value: float) -> dict[str, Any]:
    stated = {"attention_factor": value}
    return {"rope_parameters": stated, "rope_scaling": stated}


EMBEDDING = "model.embed_tokens.weight"
# what is done to a checkpoint
SPOILT: dict[str, Callable[[Path], Any]] = {
    "theta on top": lambda folder: spoil(folder, "config.json", rope_theta=77.0),
    "theta": lambda folder: spoil(
        folder, "config.json", rope_theta=5e5, rope_parameters={"rope_theta": 5e5}, rope_scaling={}
    ),
    "attention scale": lambda folder: spoil(folder, "config.json", **scale_of(1.0)),
    "window": lambda folder: spoil(folder, "config.json", max_position_embeddings=32),
    "text elsewhere": lambda folder: spoil(folder, "config.json", attention_dropout="x"),
    "text for a number": lambda folder: spoil(folder, "config.json", rope_scaling={"factor": "2"}),
    "format": lambda folder: spoil(folder, "ropewalk.json", format=9),
    "our theta": lambda folder: spoil(folder, "ropewalk.json", rope={"theta": "x"}),
    "our fingerprint": lambda folder: spoil(folder, "ropewalk.json", rope={"fingerprint": "0"}),
    "a scheme of our own": lambda folder: spoil(folder, "ropewalk.json", rope={"not_expressible": "heads"}),
    "no JSON": lambda folder: (folder / "config.json").write_text("{"),
    "no weights": lambda folder: (folder / "model.safetensors").unlink(),
    "half a file": lambda folder: os.truncate(folder / "model.safetensors", 5000),
    "an empty tensor": lambda folder: weights(folder, lambda held: held.update(more=torch.zeros(0, 2))),
    "a tokenizer cut off": lambda folder: (folder / "tokenizer.json").write_text("{"),
    "another width inside": lambda folder: spoil(folder, "config.json", intermediate_size=7),
    "a tensor of whole numbers": lambda folder: weights(
        folder, lambda held: held.update({EMBEDDING: held[EMBEDDING].to(torch.int8)})
    ),
    "no layer's norm": lambda folder: weights(
        folder, lambda held: [held.pop(name) for name in list(held) if "input_layernorm" in name]
    ),
    "a missing tensor": lambda folder: weights(folder, lambda held: held.pop("model.norm.weight")),
    "another shape": lambda folder: weights(folder, lambda held: held.update({EMBEDDING: torch.zeros(3, 2)})),
}


@pytest.mark.parametrize("name", SPOILT)
def test_what_verify_refuses_gets_no_name(trained: Path, tmp_path: Path, name: str) -> None:
    """In the same words; nothing is left behind."""
    folder = tmp_path / "spoilt"
    shutil.copytree(trained / "checkpoints" / "step-000004", folder)
    SPOILT[name](folder)
    with pytest.raises(ValueError, match=r".") as caught:
        convert(folder, tmp_path / "out")
    assert isinstance(caught.value, TrainError | RopeError)
    try:
        faults = verify_folder(folder).faults
    except RopeError as error:
        faults = (str(error),)
    # Texts alone are a folder that can be verified.
    assert faults or name == "no weights"
    assert all(fault in str(caught.value) for fault in faults), (faults, str(caught.value))
    assert [p.name for p in tmp_path.iterdir()] == ["spoilt"]


def test_what_transformers_cannot_load_is_named(trained: Path, tmp_path: Path) -> None:
    folder = tmp_path / "spoilt"
    shutil.copytree(trained / "checkpoints" / "step-000004", folder)
    spoil(folder, "config.json", hidden_act="none")
    with pytest.raises(TrainError, match=r"must load .*KeyError: 'none'; repair") as caught:
        convert(folder, tmp_path / "out")
    assert str(caught.value).startswith(f"{folder}: ")


def test_a_quantised_checkpoint_is_not_converted(trained: Path, tmp_path: Path) -> None:
    folder = tmp_path / "spoilt"
    shutil.copytree(trained / "checkpoints" / "step-000004", folder)
    spoil(folder, "config.json", quantization_config={"quant_method": "gptq", "bits": 4})
    with pytest.raises(TrainError, match="got gptq; take the model that is not quantised"):
        convert(folder, tmp_path / "out")


def test_a_folder_called_like_a_tokenizer_is_left_behind(trained: Path, tmp_path: Path) -> None:
    folder = tmp_path / "more"
    shutil.copytree(trained / "checkpoints" / "step-000004", folder)
    (folder / "tokenizer-old").mkdir()
    assert convert(folder, tmp_path / "out").verified


@pytest.mark.parametrize("dtype", [None, "bfloat16"])
def test_a_weight_that_is_no_number_is_named(trained: Path, tmp_path: Path, dtype: str | None) -> None:
    """No header tells it, so verify cannot."""
    folder = tmp_path / "spoilt"
    shutil.copytree(trained / "checkpoints" / "step-000004", folder)
    weights(folder, lambda held: held["model.norm.weight"].fill_(float("nan")))
    with pytest.raises(TrainError, match=r"NaN or infinity in model.norm.weight; take an earlier"):
        convert(folder, tmp_path / "out", dtype=dtype)
    assert [p.name for p in tmp_path.iterdir()] == ["spoilt"]


def test_what_stands_beside_the_config_learns_the_window(trained: Path, tmp_path: Path) -> None:
    folder = tmp_path / "checkpoint"
    shutil.copytree(trained / "checkpoints" / "step-000004", folder)
    spoil(folder, "generation_config.json", max_length=32)
    convert(folder, tmp_path / "out")
    assert json.loads((tmp_path / "out" / "generation_config.json").read_text())["max_length"] == 64
    assert verify_folder(tmp_path / "out").faults == ()


def test_bad_input(trained: Path, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    for source, target, value, cure in [
        (trained, tmp_path / "there", "got a folder", "name a new one"),
        (tmp_path / "absent", tmp_path / "out", "got no folder", "step-N"),
        (tmp_path / "there", tmp_path / "out", "got a folder without", "step-N"),
    ]:
        with pytest.raises(TrainError) as caught:
            convert(source, target)
        assert value in str(caught.value)
        assert cure in str(caught.value)
