"""A loss or gradient is no number or spikes, on one of two ranks, and the run does as its recipe says."""

import json
from pathlib import Path
from typing import Any, NoReturn
from unittest.mock import patch

import pytest
import torch
from safetensors.torch import load_file
from world.packs import MemoryPlan
from world.training import run

from ropewalk.data import train_tokenizer
from ropewalk.train import TrainError
from ropewalk.train.progress import latest_checkpoint

BAD = {2: "gradient"}
STEPS = {"steps": 6, "keep": 3}


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("bad-steps") / "tokenizer"
    train_tokenizer(["rope walk 12"], 300, folder)
    return str(folder)


@pytest.fixture(scope="module")
def skipped(tmp_path_factory: pytest.TempPathFactory, ranks: Any, tokenizer: str) -> Path:
    """A run that skipped its third step and was never stopped."""
    folder = tmp_path_factory.mktemp("skipped") / "run"
    train_on(ranks, folder, tokenizer, BAD, on_non_finite="skip")
    return folder


def body(
    run_dir: str,
    tokenizer: str,
    kill_after: int,
    settings: dict[str, Any],
    faults: dict[int, str],
    parts: list[dict[str, Any]],
) -> str:
    """As `run`, on every rank; a refusal is what it says. Two steps are enough to tell a spike."""
    try:
        with patch("ropewalk.train.guard.LEAST", 2):
            return str(run(run_dir, tokenizer, kill_after, settings, MemoryPlan(), faults, parts))
    except TrainError as error:
        return f"refused: {error}"


def train_on(
    ranks: Any,
    folder: Path,
    tokenizer: str,
    faults: dict[int, str],
    *,
    kill_after: int = -1,
    parts: list[dict[str, Any]] | None = None,
    **settings: Any,
) -> list[str]:
    values = {**STEPS, "zero_stage": 1, **settings}
    return ranks(2, timeout=300)(body, str(folder), tokenizer, kill_after, values, faults, parts or [])


def lines(folder: Path) -> list[dict[str, Any]]:
    """Read metrics.jsonl as what reads JSON and nothing else does."""
    text = (folder / "metrics.jsonl").read_text()
    return [json.loads(line, parse_constant=no_json) for line in text.splitlines()]


def no_json(constant: str) -> NoReturn:
    raise AssertionError(f"{constant} is no JSON")


def weights(folder: Path) -> dict[str, torch.Tensor]:
    newest = latest_checkpoint(folder)
    assert newest is not None
    files = [*newest.glob("*.safetensors"), *(newest / "optimizer").glob("*.safetensors")]
    return {name: tensor for file in files for name, tensor in load_file(file).items()}


def assert_same_weights(one: Path, other: Path) -> None:
    ours, theirs = weights(one), weights(other)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.slow
@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_a_run_stops_before_a_bad_step_and_goes_on_with_the_same_command(
    ranks: Any, tokenizer: str, tmp_path: Path, stage: int
) -> None:
    arguments: dict[str, Any] = {"zero_stage": stage, "checkpoint_every": 2}
    told = train_on(ranks, tmp_path / "run", tokenizer, {3: "gradient"}, **arguments)
    assert all(text.startswith("refused: train.on_non_finite: ") for text in told)
    assert all("gradient norm inf at step 4" in text for text in told)
    assert [line["step"] for line in lines(tmp_path / "run")] == [1, 2, 3]
    assert latest_checkpoint(tmp_path / "run").name == "step-000002"  # type: ignore[union-attr]
    assert all(tensor.isfinite().all() for tensor in weights(tmp_path / "run").values())
    train_on(ranks, tmp_path / "run", tokenizer, {}, **arguments)
    train_on(ranks, tmp_path / "straight", tokenizer, {}, **arguments)
    assert_same_weights(tmp_path / "run", tmp_path / "straight")


def test_a_skipped_step_is_told_and_counted(skipped: Path) -> None:
    found = lines(skipped)
    assert [line["skipped"] for line in found] == [False, False, True, False, False, False]
    bad = found[2]
    assert (bad["grad_norm"], bad["reason"]) == (None, "gradient norm inf")
    assert bad["loss"] == pytest.approx(found[1]["loss"], rel=0.1)
    assert [line["tokens"] for line in found] == [512, 1024, 1024, 1536, 2048, 2560]
    last = latest_checkpoint(skipped)
    assert last is not None
    assert json.loads((last / "ropewalk.json").read_text())["progress"]["skipped"] == [3]
    assert json.loads((last / "optimizer" / "state.json").read_text())["step"] == 5


def test_a_run_that_skipped_resumes_exactly(
    ranks: Any, tokenizer: str, tmp_path: Path, skipped: Path
) -> None:
    """The kill stands after the checkpoint of step 4: AdamW's count is then 3."""
    train_on(ranks, tmp_path / "run", tokenizer, {**BAD, 5: "kill"}, on_non_finite="skip")
    train_on(ranks, tmp_path / "run", tokenizer, BAD, on_non_finite="skip")
    assert_same_weights(tmp_path / "run", skipped)
    ours, theirs = (
        [(line["step"], line["loss"], line["skipped"]) for line in lines(folder)]
        for folder in (tmp_path / "run", skipped)
    )
    assert ours == theirs


@pytest.mark.slow
@pytest.mark.parametrize("every", [2, 5], ids=["checkpoint", "start"])
def test_going_back_ends_where_skipping_does(
    ranks: Any, tokenizer: str, tmp_path: Path, skipped: Path, every: int
) -> None:
    """With a checkpoint behind the bad step, and with none: then the run goes back to its start."""
    folder = tmp_path / "run"
    train_on(ranks, folder, tokenizer, BAD, on_non_finite="back", checkpoint_every=every)
    assert_same_weights(folder, skipped)
    assert [line["skipped"] for line in lines(folder)] == [False, False, True, False, False, False]
    assert [line["step"] for line in lines(folder)] == [1, 2, 3, 4, 5, 6]


def test_a_loss_that_is_no_number_is_skipped_like_a_gradient(
    ranks: Any, tokenizer: str, tmp_path: Path, skipped: Path
) -> None:
    train_on(ranks, tmp_path / "run", tokenizer, {2: "loss"}, on_non_finite="skip")
    assert_same_weights(tmp_path / "run", skipped)
    assert lines(tmp_path / "run")[2]["loss"] is None


SPIKE = {2: "spike"}


def test_a_run_that_skips_a_spike_resumes_exactly(
    ranks: Any, tokenizer: str, tmp_path: Path, skipped: Path
) -> None:
    """Its window is then read again from metrics.jsonl."""
    folder = tmp_path / "run"
    train_on(ranks, folder, tokenizer, {**SPIKE, 5: "kill"}, on_spike="skip")
    train_on(ranks, folder, tokenizer, SPIKE, on_spike="skip")
    assert_same_weights(folder, skipped)
    found = lines(folder)
    assert [line["skipped"] for line in found] == [False, False, True, False, False, False]
    assert found[2]["loss"] > 100 * found[1]["loss"]
    assert found[2]["reason"].startswith("loss ")
    assert "gradient norm" in found[2]["reason"]


def test_a_run_stops_before_a_spike(ranks: Any, tokenizer: str, tmp_path: Path) -> None:
    told = train_on(ranks, tmp_path / "run", tokenizer, SPIKE, on_spike="stop", steps=3)
    assert told[0] == told[1]
    assert told[0].startswith("refused: train.on_spike: ")
    assert "at step 3" in told[0]
    assert [line["step"] for line in lines(tmp_path / "run")] == [1, 2]
    assert latest_checkpoint(tmp_path / "run").name == "step-000002"  # type: ignore[union-attr]


def test_a_run_goes_back_from_a_spike(ranks: Any, tokenizer: str, tmp_path: Path, skipped: Path) -> None:
    train_on(ranks, tmp_path / "run", tokenizer, SPIKE, on_spike="back")
    assert_same_weights(tmp_path / "run", skipped)
    assert [line["skipped"] for line in lines(tmp_path / "run")] == [False, False, True, False, False, False]


@pytest.mark.parametrize(
    ("stage", "dtype"),
    [
        pytest.param(1, "bfloat16", marks=pytest.mark.slow),
        pytest.param(0, "float32", marks=pytest.mark.slow),
        pytest.param(3, "bfloat16", marks=pytest.mark.slow),
    ],
)
def test_at_the_borders_of_stages_going_back_ends_where_skipping_does(
    ranks: Any, tokenizer: str, tmp_path: Path, stage: int, dtype: str
) -> None:
    """The first and the last step of each stage are bad, and packs go through the model in chunks."""
    values = {"zero_stage": stage, "dtype": dtype, "chunk": 24, "store": "host", "parity_check": False}
    faults = {0: "gradient", 2: "loss"}
    for rule in ("skip", "back"):
        train_on(
            ranks, tmp_path / rule, tokenizer, faults, parts=[{}, {}], on_non_finite=rule, steps=3, **values
        )
        found = lines(tmp_path / rule)
        assert [line["skipped"] for line in found] == [True, False, True, True, False, True]
        assert [line["stage"] for line in found] == [0, 0, 0, 1, 1, 1]
    assert_same_weights(tmp_path / "skip", tmp_path / "back")
    assert all(tensor.isfinite().all() for tensor in weights(tmp_path / "skip").values())
