"""Recipes small enough to prepare and check in a test: a tiny drawn model, its tokenizer, a corpus."""

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from world.command_line import Ended, run_verb

from ropewalk.data import train_tokenizer

CONFIG = {
    "num_hidden_layers": 1,
    "hidden_size": 32,
    "intermediate_size": 32,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 300,
    "tie_word_embeddings": True,
    "max_position_embeddings": 64,
    "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
}
WORDS = ("the", "rope", "is", "laid", "along", "a", "walk", "of", "many", "yards", "strand", "by", "strand")


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `corpus/` (text files) and `model/` (a drawn Llama of one layer with a tokenizer)."""
    import torch
    from transformers import AutoModelForCausalLM, LlamaConfig

    folder = tmp_path_factory.mktemp("made")
    (folder / "corpus").mkdir()
    draw = random.Random(0)
    texts = [" ".join(draw.choices(WORDS, k=400)) + f"\nnumber {index}\n" for index in range(40)]
    for index, text in enumerate(texts):
        (folder / "corpus" / f"{index}.txt").write_text(text)
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(LlamaConfig(**CONFIG)).save_pretrained(folder / "model")
    train_tokenizer(texts, 300, folder / "model")
    return folder


@pytest.fixture
def recipe_file(made: Path, tmp_path: Path) -> Path:
    """A recipe on the drawn model, with a run directory of its own."""
    file = tmp_path / "small.yaml"
    file.write_text(yaml.safe_dump(recipe_values(made, tmp_path)))
    return file


def recipe_values(made: Path, folder: Path) -> dict:
    return {
        "run_dir": str(folder / "run"),
        "target_length": 128,
        "model": {"path": str(made / "model")},
        "rope": {"kind": "yarn", "replace": True},
        "data": {
            "holdout": 0.2,
            "near_duplicates": 1.0,
            "sources": {"text": {"kind": "files", "weight": 1.0, "paths": [str(made / "corpus")]}},
        },
        "train": {"steps": 4, "batch_tokens": 512, "learning_rate": 1e-3, "checkpoint_every": 2},
        "eval": {"tasks": {"loss": {"kind": "position_loss", "length": 128, "documents": 2}}},
    }


@pytest.fixture
def run() -> Callable[..., Ended]:
    """Run a command line in this process; the result has exit_code, stdout and stderr."""
    return run_verb


@pytest.fixture
def run_json(run: Callable[..., Ended]) -> Callable[..., Any]:
    """Run a verb with --json and give what it printed."""

    def read(*arguments: str | Path) -> Any:
        result = run(*arguments, "--json")
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)

    return read
