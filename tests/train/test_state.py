"""The optimizer's weights are what a file holds, a draw makes or a checkpoint keeps, at each stage and dtype.

What the forward uses is that, rounded once.
"""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM
from world.packs import MemoryPlan
from world.training import MODEL, recipe, run

from ropewalk.recipes.language.schema import stages
from ropewalk.train.convert.huggingface import convert
from ropewalk.train.engine import named_parameters
from ropewalk.train.loop import Callbacks, Run
from ropewalk.train.mesh import Mesh, join_world
from ropewalk.train.progress import Progress, latest_checkpoint
from ropewalk.train.state import KINDS, read_state

GEMMA = {
    "model_type": "gemma3_text",
    "layer_types": ["full_attention", "full_attention"],
    "hidden_activation": "gelu_pytorch_tanh",
    "query_pre_attn_scalar": 8,
}
LAYOUTS = [(2, 1, "bfloat16"), (2, 2, "bfloat16"), (2, 3, "bfloat16"), (1, 1, "bfloat16"), (1, 3, "bfloat16")]
LAYOUTS += [(2, stage, "float32") for stage in range(4)]
State = dict[str, Tensor]


def engine_weights(settings: dict[str, Any], folder: str | None, tokenizer: str) -> tuple[State, State]:
    """Masters and forward weights of an engine as the loop builds it, before its first step."""
    join_world()
    (stage,) = stages(recipe(str(Path(tokenizer).parent), tokenizer, **settings))
    run = Run(mesh=Mesh.of_world(), run_dir=Path(tokenizer).parent, callbacks=Callbacks(), steps=1)
    engine = run.engine(stage.stage, 1, Path(folder) if folder else None, Progress())
    masters = {name: read_state(engine, p)["fp32"] for name, p in named_parameters(engine)}
    forward = forward_weights(engine)
    assert all(not p.is_floating_point() or p.dtype == torch.float32 for p in engine.module.buffers())
    engine.destroy()
    return masters, forward


def forward_weights(engine: Any) -> State:
    from deepspeed import zero

    found = {}
    for name, parameter in named_parameters(engine):
        with zero.GatheredParameters([parameter], enabled=hasattr(parameter, "ds_id")):
            found[name] = parameter.detach().cpu().clone()
    return found


def equal(found: State, wanted: State, dtype: torch.dtype = torch.float32) -> bool:
    """Hold bits against bits; both sides are of `dtype` or are rounded to it once."""
    assert found.keys() == wanted.keys()
    assert all(tensor.dtype == dtype for tensor in found.values())
    return all(torch.equal(found[name], tensor.to(dtype)) for name, tensor in wanted.items())


@pytest.fixture(scope="module")
def folder(straight: tuple[Path, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with float32 weights, of which bfloat16 cannot hold most, and a tokenizer."""
    made = tmp_path_factory.mktemp("base") / "model"
    shutil.copytree(straight[1], made)
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(AutoConfig.for_model(**MODEL)).save_pretrained(made)
    return made


def read(folder: Path) -> State:
    """All tensors of a folder's safetensors, as they are."""
    found: State = {}
    for file in folder.glob("*.safetensors"):
        found |= load_file(file)
    return found


def held(folder: Path) -> State:
    """What a folder's file holds, in float32."""
    return {name: tensor.float() for name, tensor in read(folder).items()}


@pytest.mark.parametrize(("world", "stage", "dtype"), LAYOUTS)
def test_masters_are_what_the_file_holds(
    ranks: Any, folder: Path, world: int, stage: int, dtype: str
) -> None:
    wanted = held(folder)
    settings = {"path": str(folder), "zero_stage": stage, "dtype": dtype}
    for masters, forward in ranks(world)(engine_weights, settings, None, str(folder)):
        assert equal(masters, wanted)
        assert equal(forward, wanted, getattr(torch, dtype))


def as_bin(folder: Path) -> None:
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def rounded(folder: Path, dtype: torch.dtype) -> None:
    weights = {name: tensor.to(dtype) for name, tensor in load_file(folder / "model.safetensors").items()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def in_shards(folder: Path) -> None:
    AutoModelForCausalLM.from_pretrained(folder).save_pretrained(folder, max_shard_size="20KB")
    assert len(list(folder.glob("model-*.safetensors"))) > 1
    (folder / "model.safetensors").unlink(missing_ok=True)


def under_other_names(folder: Path) -> None:
    """As a file without the head's prefix: transformers renames while it loads."""
    weights = load_file(folder / "model.safetensors")
    bare = {name.removeprefix("model."): tensor for name, tensor in weights.items()}
    assert bare.keys() != weights.keys()
    save_file(bare, folder / "model.safetensors", metadata={"format": "pt"})


def untied(folder: Path) -> None:
    config = AutoConfig.for_model(**{**MODEL, "tie_word_embeddings": False})
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    assert "lm_head.weight" in load_file(folder / "model.safetensors")


def another_family(folder: Path) -> None:
    """Gemma-3 scales embeddings by a buffer."""
    torch.manual_seed(0)
    config = AutoConfig.for_model(**{key: MODEL[key] for key in MODEL if key != "rope_parameters"} | GEMMA)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)


FORMS = {
    "bin": as_bin,
    "bfloat16": lambda folder: rounded(folder, torch.bfloat16),
    "float16": lambda folder: rounded(folder, torch.float16),
    "shards": in_shards,
    "other names": under_other_names,
    "untied": untied,
    "gemma": another_family,
}


@pytest.mark.parametrize("form", FORMS)
def test_masters_are_what_any_form_of_file_holds(ranks: Any, folder: Path, tmp_path: Path, form: str) -> None:
    source = tmp_path / "model"
    shutil.copytree(folder, source)
    FORMS[form](source)
    kept = held(folder if form in ("bin", "shards", "other names") else source)
    settings = {"path": str(source), "zero_stage": 1, "dtype": "bfloat16"}
    for masters, forward in ranks(2)(engine_weights, settings, None, str(folder)):
        assert equal(masters, kept)
        assert equal(forward, kept, torch.bfloat16)


@pytest.mark.parametrize(("world", "stage", "dtype"), LAYOUTS[:3])
def test_a_model_is_drawn_in_float32(ranks: Any, folder: Path, world: int, stage: int, dtype: str) -> None:
    torch.manual_seed(3)
    drawn = AutoModelForCausalLM.from_config(AutoConfig.for_model(**MODEL), dtype=torch.float32)
    wanted = dict(drawn.named_parameters())
    settings = {"seed": 3, "zero_stage": stage, "dtype": dtype}
    for masters, forward in ranks(world)(engine_weights, settings, None, str(folder)):
        assert equal(masters, wanted)
        assert equal(forward, wanted, getattr(torch, dtype))


def states(folder: Path) -> dict[str, State]:
    """The optimizer states of a checkpoint by kind."""
    found = read(folder / "optimizer")
    return {
        kind: {k.removesuffix(f".{kind}"): t for k, t in found.items() if k.endswith(f".{kind}")}
        for kind in KINDS
    }


@pytest.fixture(scope="module")
def trained(straight: tuple[Path, str], ranks: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bfloat16 run of two ranks at stage 1, four steps with a checkpoint after two."""
    run_dir = tmp_path_factory.mktemp("bf16") / "run"
    ranks(2)(run, str(run_dir), straight[1], -1, {"zero_stage": 1, "dtype": "bfloat16"}, MemoryPlan())
    return run_dir


def test_what_a_checkpoint_offers_are_its_masters_rounded(trained: Path) -> None:
    last = latest_checkpoint(trained)
    assert last is not None
    kept = states(last)["fp32"]
    assert equal(read(last), kept, torch.bfloat16)
    assert not equal({name: tensor.bfloat16().float() for name, tensor in kept.items()}, kept)
    assert json.loads((last / "config.json").read_text())["dtype"] == "bfloat16"


@pytest.mark.parametrize(("dtype", "exported"), [(None, "bfloat16"), ("float32", "float32")])
def test_a_bfloat16_run_is_converted(trained: Path, tmp_path: Path, dtype: str | None, exported: str) -> None:
    assert convert(trained, tmp_path / "out", dtype=dtype).verified
    last = latest_checkpoint(trained)
    assert last is not None
    assert equal(read(tmp_path / "out"), read(last), getattr(torch, exported))


@pytest.mark.parametrize(("world", "stage", "dtype"), LAYOUTS)
def test_a_stage_goes_on_from_the_masters_of_the_last_whatever_its_dtype(
    ranks: Any, straight: tuple[Path, str], trained: Path, world: int, stage: int, dtype: str
) -> None:
    last = latest_checkpoint(trained)
    assert last is not None
    kept = states(last)["fp32"]
    settings = {"zero_stage": stage, "dtype": dtype}
    for masters, forward in ranks(world)(engine_weights, settings, str(last), straight[1]):
        assert equal(masters, kept)
        assert equal(forward, kept, getattr(torch, dtype))


@pytest.mark.parametrize(
    ("world", "stage"),
    [(2, 1), *(pytest.param(*one, marks=pytest.mark.slow) for one in ((2, 2), (2, 3), (1, 1)))],
)
def test_a_bfloat16_run_that_comes_back_is_the_one_that_never_stopped(
    ranks: Any, straight: tuple[Path, str], tmp_path: Path, world: int, stage: int
) -> None:
    run_dir, settings = tmp_path / "run", {"zero_stage": stage, "dtype": "bfloat16"}
    arguments = (str(run_dir), straight[1], -1, settings, MemoryPlan())
    ranks(world)(run, *arguments)
    whole = whole_state(run_dir)
    (run_dir / "latest").write_text("step-000002\n")
    shutil.rmtree(run_dir / "checkpoints" / "step-000004")
    ranks(world)(run, *arguments)
    again = whole_state(run_dir)
    assert again[0] == whole[0]
    assert whole[1].keys() == again[1].keys()
    assert all(torch.equal(whole[1][name], again[1][name]) for name in whole[1])


def whole_state(run_dir: Path) -> tuple[list[float], State]:
    """Losses and gradient norms of a run, and all tensors of its last checkpoint."""
    lines = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3, 4]
    last = run_dir / "checkpoints" / "step-000004"
    tensors = {f"{kind}.{k}": t for kind, of in states(last).items() for k, t in of.items()}
    return [line[key] for line in lines for key in ("loss", "grad_norm")], tensors | read(last)
