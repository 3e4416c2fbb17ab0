"""A converted checkpoint is the model that was trained, and nothing else is given a name."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM
from world.packs import VOCABULARY, MemoryPlan
from world.training import run

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


def broken(trained: Path, tmp_path: Path, change: str) -> Path:
    """Copy the last checkpoint and spoil one thing."""
    folder = tmp_path / "broken"
    shutil.copytree(trained / "checkpoints" / "step-000004", folder)
    config = json.loads((folder / "config.json").read_text())
    if change == "theta":
        config["rope_theta"] = config["rope_parameters"]["rope_theta"] = 5e5
    if change == "attention scale":
        config["rope_parameters"]["attention_factor"] = config["rope_scaling"]["attention_factor"] = 1.0
    if change == "window":
        config["max_position_embeddings"] = 32
    (folder / "config.json").write_text(json.dumps(config))
    if change == "format":
        (folder / "ropewalk.json").write_text(json.dumps({"format": 9}))
    if change == "empty tensor":
        weights = load_file(folder / "model.safetensors")
        weights["model.extra.weight"] = torch.zeros(0, VOCABULARY)
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


@pytest.mark.parametrize("change", ["theta", "attention scale", "window", "format", "empty tensor"])
def test_a_spoilt_checkpoint_gets_no_name(trained: Path, tmp_path: Path, change: str) -> None:
    with pytest.raises(TrainError) as caught:
        convert(broken(trained, tmp_path, change), tmp_path / "out")
    assert ("format" if change == "format" else "nothing was written") in str(caught.value)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["broken"]


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
