"""A stranger's model and text: from `recipes new` to an exported, measured model, as the README says."""

import json
import os
import random
import subprocess
import sysconfig
from pathlib import Path

import pytest
import torch
import yaml
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

SCRIPTS = Path(sysconfig.get_path("scripts"))
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def say(folder: Path, *command: object) -> str:
    """Run a command of the environment in a folder; give what it printed."""
    name, *rest = map(str, command)
    done = subprocess.run(
        [str(SCRIPTS / name), *rest],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return done.stdout if name == "ropewalk" and rest[1] == "new" else done.stdout + done.stderr


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with stories, and a Qwen2 of 256 tokens with a byte-level tokenizer of its own."""
    folder, draw = tmp_path_factory.mktemp("home"), random.Random(0)
    (folder / "text").mkdir()
    words = ["".join(draw.choices("abcdefghij", k=draw.randint(2, 7))) for _ in range(300)]
    for number in range(40):
        lines = [" ".join(draw.choices(words, k=9)) + "." for _ in range(draw.choice([20, 200, 400]))]
        (folder / "text" / f"story-{number}.txt").write_text("\n".join(lines))
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(  # pyright: ignore[reportCallIssue]
        vocab_size=600,
        special_tokens=["<|end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train([str(file) for file in (folder / "text").iterdir()], trainer)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|end|>").save_pretrained(folder / "model")
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=600,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        eos_token_id=0,
        bos_token_id=None,
    )
    Qwen2ForCausalLM(config).save_pretrained(folder / "model")
    return folder


def test_a_strangers_model_and_text(home: Path) -> None:
    options = ("--model", "model", "--to", 1024, "--gpus", 2, "--text", "text")
    (home / "mine.yaml").write_text(say(home, "ropewalk", "recipes", "new", *options))
    recipe = yaml.safe_load((home / "mine.yaml").read_text())
    assert "mine.yaml: ok" in say(home, "ropewalk", "recipes", "check", "mine.yaml", "--world", 2)
    prepared = say(home, "ropewalk", "prepare", "mine.yaml")
    told = say(home, "torchrun", "--nproc-per-node", 2, "-m", "ropewalk.recipes.extend", "mine.yaml")
    for phase, total in [("mix and pack (tokens)", prepared), ("base: sliding window", told)]:
        *_, last = [line.split(": ")[-1] for line in total.splitlines() if line.startswith(phase)]
        done, _, whole = last.partition(" of ")
        assert done == whole, f"{phase}: {last}"
    assert f"step {recipe['train']['steps']}/{recipe['train']['steps']}" in told
    assert "exported and verified" in told
    run = home / recipe["run_dir"]
    report = json.loads((run / "report.json").read_text())
    assert [model["name"] for model in report["models"]] == ["base", "base+abf", "extended"]
    assert set(report["tasks"]) == {"position-loss", "needles", "context-gain"}
    exported = AutoModelForCausalLM.from_pretrained(run / "model")
    assert exported.config.max_position_embeddings == 1024
    assert exported.dtype == torch.bfloat16
    assert "recipes new" not in told, "the recipe is one's own already"
