"""A whole small world for tests of the verbs: text, tokenizer, base model and a recipe that extends it."""

import random
from pathlib import Path

import torch
import yaml
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

from ropewalk.data import train_tokenizer

WORDS = (
    "rope",
    "yarn",
    "strand",
    "twist",
    "lane",
    "walk",
    "spin",
    "lay",
    "coil",
    "knot",
    "hemp",
    "turn",
    "pull",
)


def write_text(folder: Path, files: int = 40) -> list[str]:
    """Write files of a few thousand characters, no two alike."""
    draw = random.Random(0)
    folder.mkdir()
    texts = []
    for number in range(files):
        lines = [" ".join(draw.choices(WORDS, k=8)) + f" {draw.randrange(10**6)}" for _ in range(60 + number)]
        texts.append("\n".join(lines) + "\n")
        (folder / f"{number:02d}.txt").write_text(texts[-1])
    return texts


def write_world(folder: Path) -> Path:
    """Make everything in `folder` and return the recipe's path; the model's window is 64, the target 256."""
    texts = write_text(folder / "text")
    tokenizer = AutoTokenizer.from_pretrained(train_tokenizer(texts, 400, folder / "base"))
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        tie_word_embeddings=True,
        max_position_embeddings=64,
        bos_token_id=0,
        eos_token_id=0,
    )
    LlamaForCausalLM(config).save_pretrained(folder / "base")
    recipe = folder / "small.yaml"
    recipe.write_text(yaml.safe_dump(recipe_of(folder)))
    return recipe


def recipe_of(folder: Path) -> dict:
    return {
        "run_dir": str(folder / "run"),
        "target_length": 256,
        "model": {"path": str(folder / "base")},
        "rope": {"kind": "yarn"},
        "data": {
            "holdout": 0.2,
            "sources": {"text": {"kind": "files", "paths": [str(folder / "text")], "weight": 1.0}},
        },
        "train": {
            "steps": 6,
            "batch_tokens": 512,
            "sequence": 2,
            "learning_rate": 1e-3,
            "checkpoint_every": 2,
            "schedule": {"kind": "cosine", "warmup": 1},
        },
        "eval": {
            "every": 3,
            "tasks": {
                "position-loss": {"kind": "position_loss", "length": 256, "documents": 4},
                "needles": {"kind": "needles", "lengths": [64, 256], "depths": [0.5], "per_cell": 2},
            },
        },
    }
