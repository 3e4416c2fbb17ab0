"""From text to an exported, measured model by the commands a person types; and a run killed on the way."""

import json
import os
import signal
import subprocess
import sys
import sysconfig
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer
from world.small import write_world

from ropewalk.eval.report.write import read_report

ROOT = Path(__file__).parents[1]
SCRIPTS = Path(sysconfig.get_path("scripts"))
QUIET = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def start(*command: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command,
        env={**os.environ, **QUIET},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def say(*command: str) -> str:
    process = start(*command)
    out, _ = process.communicate()
    assert process.returncode == 0, out[-4000:]
    return out


def extend(recipe: Path, *overrides: str) -> tuple[str, ...]:
    torchrun = str(SCRIPTS / "torchrun")
    return (torchrun, "--nproc-per-node", "2", str(ROOT / "recipes/extend.py"), str(recipe), *overrides)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    recipe = write_world(tmp_path_factory.mktemp("world"))
    say(str(SCRIPTS / "ropewalk"), "prepare", str(recipe))
    return recipe


@pytest.fixture(scope="module")
def finished(world: Path) -> str:
    return say(*extend(world))


def test_a_run_leaves_what_it_promises(world: Path, finished: str) -> None:
    run = world.parent / "run"
    for name in ("recipe.yaml", "metrics.jsonl", "latest", "report.html", "report.json", "position-loss.png"):
        assert (run / name).stat().st_size > 0
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 5, 6]
    assert lines[-1]["tokens"] == 6 * 512
    assert {"loss", "grad_norm", "learning_rate", "tokens_per_second"} <= lines[0].keys()
    assert (run / "latest").read_text().strip() == "step-000006"
    assert "exported and verified" in finished


def test_it_is_measured_on_the_way(world: Path, finished: str) -> None:
    lines = [
        json.loads(line) for line in (world.parent / "run" / "evaluations.jsonl").read_text().splitlines()
    ]
    assert [line["step"] for line in lines] == [3, 6]
    report = read_report(world.parent / "run" / "report.json")
    last = [score["value"] for score in report["scores"] if score["model"] == "extended"]
    assert [score["value"] for score in lines[-1]["scores"]] == pytest.approx(last, rel=1e-5)


def test_three_models_are_measured_on_the_same_items(world: Path, finished: str) -> None:
    report = read_report(world.parent / "run" / "report.json")
    assert [model["name"] for model in report["models"]] == ["base", "base+yarn", "extended"]
    by_model = [e["results"]["position-loss"]["items_fingerprint"] for e in report["evaluations"].values()]
    assert len(set(by_model)) == 1
    weights = [model["fingerprint"] for model in report["models"]]
    assert weights[0] == weights[1] != weights[2]


def test_plain_transformers_loads_the_export(world: Path, finished: str) -> None:
    folder = world.parent / "run" / "model"
    model = AutoModelForCausalLM.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert model.config.max_position_embeddings == tokenizer.model_max_length == 256
    assert model.config.rope_parameters["rope_type"] == "yarn"
    assert model.config.rope_parameters["factor"] == 4
    assert torch.isfinite(model(torch.arange(200)[None]).logits).all()


def test_the_same_command_on_a_finished_run_only_reports(world: Path, finished: str) -> None:
    before = (world.parent / "run" / "metrics.jsonl").read_bytes()
    said = say(*extend(world))
    assert "step " not in said
    assert "measured base" not in said
    assert (world.parent / "run" / "metrics.jsonl").read_bytes() == before


def test_a_run_killed_with_nine_ends_as_if_it_had_not_been(
    world: Path, finished: str, tmp_path: Path
) -> None:
    overrides = (f"run_dir={tmp_path}/run", f"data.store={world.parent}/run/data")
    process = start(*extend(world, *overrides))
    metrics = tmp_path / "run" / "metrics.jsonl"
    while not (metrics.exists() and metrics.read_text().count("\n") >= 3):
        assert process.poll() is None, process.communicate()[0][-4000:]
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    for child in subprocess.run(
        ["pgrep", "-f", str(tmp_path)], capture_output=True, text=True
    ).stdout.split():
        os.kill(int(child), signal.SIGKILL)
    say(*extend(world, *overrides))
    whole = load_file(world.parent / "run" / "model" / "model.safetensors")
    found = load_file(tmp_path / "run" / "model" / "model.safetensors")
    assert whole.keys() == found.keys()
    assert all(torch.equal(whole[name], found[name]) for name in whole)


OLDER = """
import sys
sys.path.insert(0, sys.argv[1])
import torch, transformers
from transformers import AutoModelForCausalLM, AutoTokenizer
model = AutoModelForCausalLM.from_pretrained(sys.argv[2], dtype=torch.float32).eval()
tokenizer = AutoTokenizer.from_pretrained(sys.argv[2])
logits = model(torch.arange(200)[None], use_cache=False).logits.detach()
config = model.config
torch.save((transformers.__version__, config.rope_theta, config.rope_scaling, logits), sys.argv[3])
assert tokenizer("rope 12")["input_ids"]
"""


def test_transformers_4_reads_the_same_model(world: Path, finished: str, tmp_path: Path) -> None:
    """The oldest supported reader, installed beside; skipped where pip reaches nothing."""
    older = ["transformers==4.57.6", "tokenizers<0.23", "huggingface-hub<1"]
    older += ["requests", "urllib3", "charset-normalizer", "certifi", "idna"]  # what that hub client needs
    pip = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "-q",
        "--no-deps",
        "--target",
        str(tmp_path / "older"),
        *older,
    ]
    if subprocess.run(pip, capture_output=True).returncode:
        pytest.skip("pip cannot install transformers 4.57 here")
    folder = world.parent / "run" / "model"
    say(sys.executable, "-c", OLDER, str(tmp_path / "older"), str(folder), str(tmp_path / "said.pt"))
    version, theta, scaling, logits = torch.load(tmp_path / "said.pt")
    ours = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    assert version == "4.57.6"
    assert theta == ours.config.rope_parameters["rope_theta"]
    assert scaling["rope_type"] == "yarn"
    torch.testing.assert_close(logits, ours(torch.arange(200)[None]).logits.detach(), rtol=0, atol=1e-4)
