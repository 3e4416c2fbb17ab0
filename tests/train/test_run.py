"""A run that stops and comes back is the run that never stopped; and what it refuses to continue."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from world.packs import MemoryPlan
from world.training import recipe, run

from ropewalk.train import TrainError
from ropewalk.train.checkpoint import drop_old
from ropewalk.train.loop import Callbacks, make_batches, train
from ropewalk.train.mesh import Mesh, join_world
from ropewalk.train.progress import latest_checkpoint
from ropewalk.train.score import token_scores


def run_both(run_dir: str, tokenizer: str, settings: dict[str, Any]) -> str | None:
    """As `run`, on every rank of a pool; the kill stands at a step that all ranks finish."""
    return run(run_dir, tokenizer, -1, settings, MemoryPlan())


def weights(run_dir: Path) -> dict[str, torch.Tensor]:
    folder = latest_checkpoint(run_dir)
    assert folder is not None
    found = {}
    for file in [*folder.glob("*.safetensors"), *(folder / "optimizer").glob("*.safetensors")]:
        found |= load_file(file)
    return found


def losses(run_dir: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (run_dir / "metrics.jsonl").read_text().splitlines()]


def test_a_killed_run_ends_bit_for_bit_as_if_it_had_not_been(
    ranks: Any, straight: Any, tmp_path: Path
) -> None:
    whole, tokenizer = straight
    arguments = (str(tmp_path / "run"), tokenizer)
    assert ranks(1)(run, *arguments, 3, {"zero_stage": 1}, MemoryPlan()) == [None]
    assert latest_checkpoint(tmp_path / "run").name == "step-000002"  # type: ignore[union-attr]
    assert len(losses(tmp_path / "run")) == 3
    ranks(1)(run, *arguments, -1, {"zero_stage": 1}, MemoryPlan())
    assert losses(tmp_path / "run") == losses(whole)
    wanted, found = weights(whole), weights(tmp_path / "run")
    assert wanted.keys() == found.keys()
    assert all(torch.equal(wanted[name], found[name]) for name in wanted)


@pytest.mark.parametrize(
    ("world", "settings"),
    [(2, {"sequence": 2, "zero_stage": 3}), (2, {"sequence": 1, "zero_stage": 2}), (1, {"zero_stage": 0})],
)
def test_a_run_continues_on_another_layout(
    ranks: Any, straight: Any, tmp_path: Path, world: int, settings: dict[str, Any]
) -> None:
    whole, tokenizer = straight
    arguments = (str(tmp_path / "run"), tokenizer)
    ranks(1)(run, *arguments, 3, {"zero_stage": 1}, MemoryPlan())
    ranks(world)(run_both, *arguments, settings)
    assert losses(tmp_path / "run") == pytest.approx(losses(whole), rel=1e-4)
    wanted, found = weights(whole), weights(tmp_path / "run")
    assert wanted.keys() == found.keys()
    for name, tensor in wanted.items():
        if name.endswith("exp_avg"):  # weights that Adam moved by rounding noise differ by a whole rate
            torch.testing.assert_close(found[name], tensor, rtol=1e-2, atol=1e-5)


def evaluated_on_the_way(run_dir: str, tokenizer: str) -> list[int]:
    """Score a text after each step, in other parts; return the head's `train.loss_chunk` after each."""
    join_world()
    chunks: list[int] = []

    def score(step: int, model: Any) -> None:
        token_scores(model, torch.arange(64)[None], chunk=16, loss_chunk=11)
        chunks.append(model.lm_head.chunk)

    stage = replace(recipe(run_dir, tokenizer, zero_stage=1).stage, evaluate_every=1)
    plans: Any = [MemoryPlan()]
    Path(run_dir).mkdir()
    train([stage], plans, Mesh.of_world(), Path(run_dir), Callbacks(on_evaluate=score))
    return chunks


def test_an_evaluation_on_the_way_changes_nothing_of_the_run(
    ranks: Any, straight: Any, tmp_path: Path
) -> None:
    whole, tokenizer = straight
    assert ranks(1, timeout=120)(evaluated_on_the_way, str(tmp_path / "run"), tokenizer) == [[24] * 4]
    assert losses(tmp_path / "run") == losses(whole)
    wanted, found = weights(whole), weights(tmp_path / "run")
    assert wanted.keys() == found.keys()
    assert all(torch.equal(wanted[name], found[name]) for name in wanted)


def test_checkpoints_beyond_keep_are_dropped(straight: Any) -> None:
    whole, _ = straight
    assert sorted(p.name for p in (whole / "checkpoints").iterdir()) == ["step-000002", "step-000004"]


@pytest.mark.parametrize(
    ("change", "key", "cure"),
    [
        ({"settings": {"learning_rate": 5e-3}}, "train.learning_rate", "run_dir"),
        ({"settings": {"seed": 1}}, "train.seed", "run_dir"),
        ({"plan": {"fingerprint": "other"}}, "plan", "prepared data"),
        ({"plan": {"corpus_fingerprint": "other"}}, "corpus", "prepared data"),
        (
            {"plan": {"fingerprint": "other", "about": {"length": 64, "spec": {"seed": 1}}}},
            "spec.seed: 1, not 0",
            "data",
        ),
        ({"plan": {"length": 32}}, "packs must have 64 tokens, got 32", "prepare"),
        ({"plan": {"packs": 16}}, "got 16", "data.tokens"),
    ],
)
def test_bad_input(straight: Any, tmp_path: Path, change: dict[str, Any], key: str, cure: str) -> None:
    whole, tokenizer = straight
    shutil.copytree(whole, tmp_path / "run")
    (tmp_path / "run" / "latest").write_text("step-000002\n")
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "step-000004")
    before = (tmp_path / "run" / "metrics.jsonl").read_text()
    wanted = recipe(str(tmp_path / "run"), tokenizer, zero_stage=1, **change.get("settings", {}))
    plan = MemoryPlan(**change.get("plan", {}))
    with pytest.raises(TrainError) as caught:
        train([wanted.stage], [plan], Mesh.alone(), tmp_path / "run", Callbacks())  # type: ignore[list-item]
    assert key in str(caught.value)
    assert cure in str(caught.value)
    assert (tmp_path / "run" / "metrics.jsonl").read_text() == before


@pytest.mark.parametrize(
    ("name", "got"), [(b"step-000099\n", "step-000099"), (b"", "nothing"), (b"\xff", "\ufffd")]
)
def test_a_pointer_to_nothing_lists_what_is_there(
    straight: Any, tmp_path: Path, name: bytes, got: str
) -> None:
    shutil.copytree(straight[0], tmp_path / "run")
    (tmp_path / "run" / "latest").write_bytes(name)
    with pytest.raises(TrainError, match=f"got {got};") as caught:
        latest_checkpoint(tmp_path / "run")
    assert "step-000004" in str(caught.value)


def test_packs_of_a_step_are_shared_without_overlap(straight: Any) -> None:
    wanted = recipe("run", straight[1], sequence=1)
    batches = make_batches(wanted.stage, MemoryPlan(), Mesh.alone())  # type: ignore[arg-type]
    assert [batches.packs(step) for step in range(3)] == [range(8), range(8, 16), range(16, 24)]


def test_the_newest_checkpoint_stays_whatever_later_step_a_killed_run_left(tmp_path: Path) -> None:
    for step in (300, 350, 400):
        (tmp_path / f"step-{step:06d}").mkdir()
    drop_old(tmp_path / "step-000350", keep=1)
    assert [folder.name for folder in tmp_path.iterdir()] == ["step-000350"]
