"""A checkpoint goes on with its scheme, whatever its config says of it; and weights in either form load."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForCausalLM, LlamaForCausalLM
from world.packs import MemoryPlan
from world.slow import example
from world.training import MODEL, recipe, run

from ropewalk.recipes.language.schema import RopeSection
from ropewalk.rope import SCHEMES, installed
from ropewalk.train import TrainError
from ropewalk.train.checkpoint import write_hugging_face_files
from ropewalk.train.convert.huggingface import convert
from ropewalk.train.model import build_model, install_scheme, load_model
from ropewalk.train.progress import own_scheme
from ropewalk.train.storage import write_json


@pytest.mark.parametrize("name", sorted(SCHEMES))
def test_resumed_frequencies_are_those_of_the_start(name: str, tmp_path: Path) -> None:
    """An NTK checkpoint's config holds the raised theta: raised again, a stretch of 2 would become 4."""
    wanted = recipe(str(tmp_path), str(tmp_path))
    wanted = wanted.model_copy(update={"rope": RopeSection(kind=name, **example(name, 4))})
    started = install_scheme(build_model(wanted.stage), wanted.stage)
    started.save_pretrained(tmp_path)
    write_hugging_face_files(tmp_path, started, tmp_path)
    resumed = install_scheme(build_model(wanted.stage, tmp_path), wanted.stage)
    assert installed(resumed).fingerprint == installed(started).fingerprint
    for (path, theirs), ours in zip(resumed.named_parameters(), started.parameters(), strict=True):
        assert torch.equal(theirs, ours), path


def test_a_scheme_that_no_config_can_say_is_read_from_its_own_file(tmp_path: Path) -> None:
    rope = {"scheme": "harpe", "knobs": {"bases": [1e4, 2e4]}, "target_length": 64, "not_expressible": "why"}
    rope |= {"theta": 1e4, "original_length": 32, "fingerprint": "0"}
    assert own_scheme(tmp_path) is None
    write_json(tmp_path / "ropewalk.json", {"format": 1, "rope": rope | {"not_expressible": None}})
    assert own_scheme(tmp_path) is None
    write_json(tmp_path / "ropewalk.json", {"format": 1, "rope": rope})
    found = own_scheme(tmp_path)
    assert found is not None
    assert (found[0].name, found[0].knobs["bases"], found[1]) == ("harpe", (1e4, 2e4), 64)


def pickled(folder: Path, target: Path, shards: int) -> Path:
    """Copy a model with its weights as `pytorch_model.bin`, or in shards with their index."""
    shutil.copytree(folder, target, ignore=shutil.ignore_patterns("*.safetensors"))
    weights = load_file(folder / "model.safetensors")
    names = [f"pytorch_model-{i:05d}-of-{shards:05d}.bin" for i in range(1, shards + 1)]
    where = {key: names[i % shards] for i, key in enumerate(weights)}
    if shards == 1:
        torch.save(weights, target / "pytorch_model.bin")
        return target
    for name in names:
        torch.save({key: weights[key] for key, file in where.items() if file == name}, target / name)
    index = {"metadata": {}, "weight_map": where}
    (target / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    return target


@pytest.fixture
def base(straight: tuple[Path, str], tmp_path: Path) -> Path:
    """A drawn model with safetensors and a tokenizer."""
    shutil.copytree(straight[1], tmp_path / "base")
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(AutoConfig.for_model(**MODEL)).save_pretrained(tmp_path / "base")
    return tmp_path / "base"


@pytest.mark.parametrize("shards", [1, 2])
def test_bin_weights_train_and_export_the_same(base: Path, ranks: Any, tmp_path: Path, shards: int) -> None:
    exported = []
    for folder in (base, pickled(base, tmp_path / "bin", shards)):
        run_dir = tmp_path / f"run-{folder.name}"
        settings = {"path": str(folder), "steps": 2}
        ranks(1)(run, str(run_dir), str(folder), -1, settings, MemoryPlan())
        assert convert(run_dir, run_dir / "model").verified
        exported.append(load_file(run_dir / "model" / "model.safetensors"))
    assert exported[0].keys() == exported[1].keys()
    assert all(torch.equal(weight, exported[1][name]) for name, weight in exported[0].items())


class Harmful:
    def __reduce__(self) -> tuple[Any, ...]:
        return exec, ("raise SystemExit",)


@pytest.mark.parametrize(("content", "value"), [("harmful", "exec"), ("cut", "PytorchStream"), ("", "end")])
def test_bin_weights_run_nothing_and_are_whole(base: Path, tmp_path: Path, content: str, value: str) -> None:
    file = pickled(base, tmp_path / "bin", 1) / "pytorch_model.bin"
    if content == "harmful":
        torch.save({"x": Harmful()}, file)
    else:
        file.write_bytes(file.read_bytes()[: 1000 if content else 0])
    with pytest.raises(TrainError) as caught:
        load_model(tmp_path / "bin")
    assert value in str(caught.value)
    assert "safetensors" in str(caught.value)


Change = Callable[[dict[str, torch.Tensor]], Any]
UP = "model.layers.0.mlp.up_proj."
# what is done to weights that no header tells of
MISFITS: dict[str, Change] = {
    "none": lambda held: held.pop(UP + "weight"),
    "another shape": lambda held: held.update({UP + "weight": torch.zeros(7, 64)}),
    "one too many": lambda held: held.update({UP + "bias": torch.zeros(96)}),
}


@pytest.mark.parametrize("name", MISFITS)
def test_nothing_of_bin_weights_is_drawn_or_left_out(base: Path, tmp_path: Path, name: str) -> None:
    file = pickled(base, tmp_path / "bin", 1) / "pytorch_model.bin"
    held = torch.load(file)
    MISFITS[name](held)
    torch.save(held, file)
    with pytest.raises(TrainError, match=rf"{UP}.*; take the config.json that belongs"):
        load_model(tmp_path / "bin")


@pytest.mark.parametrize(
    ("message", "kind"), [("no memory", TrainError), ("can't allocate memory", RuntimeError)]
)
def test_an_error_is_told_as_it_is(
    base: Path, monkeypatch: pytest.MonkeyPatch, message: str, kind: type[Exception]
) -> None:
    """Training arguments beside safetensors are no weights."""

    def fails(*_: Any, **__: Any) -> None:
        raise RuntimeError(message)

    (base / "training_args.bin").write_bytes(b"")
    assert load_model(base)
    monkeypatch.setattr(LlamaForCausalLM, "__init__", fails)
    with pytest.raises(kind, match=message) as caught:
        load_model(base)
    assert ".bin" not in str(caught.value)
