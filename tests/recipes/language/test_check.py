"""What must hold between a recipe's keys, its model and the world, and which files must be there."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from world.recipes import CONFIG, recipe

from ropewalk.recipes.language.check import model_facts, problems_of
from ropewalk.recipes.language.facts import ModelFacts
from ropewalk.recipes.language.files import missing_files
from ropewalk.recipes.language.ranks import head_problems
from ropewalk.train.model import config_problems

SKIP = {"sources": {"text": {"groups": "pack", "positions": "skip"}}}
BAD_TOGETHER = [
    ({"target_length": 64}, 1, "target_length", "64", "raise"),
    ({"train": {"batch_tokens": 1000}}, 1, "train.batch_tokens", "1000", "768 or 1024"),
    ({"train": {"batch_tokens": 256}}, 2, "train.batch_tokens", "256", "512"),
    ({"train": {"micro_batch": 3}}, 1, "train.batch_tokens", "1024", "768"),
    ({"train": {"sequence": 2}}, 3, "train.sequence", "2", "[1]"),
    ({"train": {"sequence": 3}}, 6, "train.sequence", "3", "[1, 2]"),
    ({"train": {"sequence": 2, "heads": 4}}, 2, "train.heads", "4", "[1, 2]"),
    ({"train": {"sequence": 8, "heads": 8, "chunk": 64}}, 8, "train.heads", "8", "[1, 2]"),
    ({"rope": {"kind": "dca"}, "train": {"sequence": 16}}, 16, "train.sequence", "16", "[1, 2, 4, 8]"),
    ({"rope": {"kind": "dca"}, "train": {"sequence": 4, "heads": 2}}, 4, "train.heads", "2", "[4]"),
    ({"rope": {"kind": "dca"}, "eval": {"sequence": 16}}, 16, "eval.sequence", "16", "[1, 2, 4, 8]"),
    ({"rope": {"kind": "dca"}, "train": {"chunk": 64}}, 1, "train.chunk", "64", "remove"),
    (
        {"rope": {"kind": "dca"}, "train": {"keep_attention": True}},
        1,
        "train.keep_attention",
        "True",
        "remove",
    ),
    ({"train": {"chunk": 66, "sequence": 4}}, 4, "train.chunk", "66", "64 or 68"),
    ({"train": {"chunk": 256}}, 1, "train.chunk", "256", "leave it out"),
    ({"train": {"store": "host"}}, 1, "train.store", "'host'", "train.chunk"),
    ({"train": {"store": {"device_layers": 0}}}, 1, "train.store", "'device_layers': 0", "train.chunk"),
    (
        {"train": {"chunk": 64, "store": {"device_layers": 2}}},
        1,
        "train.store.device_layers",
        "2",
        "store: device",
    ),
    (
        {"train": {"keep_attention": True, "gradient_checkpointing": False}},
        1,
        "train.keep_attention",
        "true",
        "remove",
    ),
    ({"train": {"kernel": "flex", "chunk": 64}}, 1, "train.kernel", "flex", "auto"),
    ({"train": {"kernel": "flex", "keep_attention": True}}, 1, "train.kernel", "flex", "auto"),
    ({"train": {"kernel": "flex", "sequence": 16}}, 16, "train.kernel", "flex", "auto"),
    ({"train": {"kernel": "varlen"}}, 1, "train.kernel", "float32", "bfloat16"),
    ({"train": {"kernel": "flash"}}, 1, "train.kernel", "float32", "bfloat16"),
    ({"train": {"kernel": "cudnn"}}, 1, "train.kernel", "float32", "auto"),
    (
        {"train": {"dtype": "bfloat16", "micro_batch": 2**17, "batch_tokens": 2**25}},
        1,
        "train.kernel",
        str(2**31),
        "train.sequence",
    ),
    (
        {"model": {"config": {"attention_dropout": 0.1}}},
        1,
        "model.config.attention_dropout",
        "0.1",
        "models/x",
    ),
    (
        {"model": {"config": {"resid_pdrop": 0.1}}, "train": {"chunk": 64}},
        1,
        "model.config.resid_pdrop",
        "0.1",
        "train.chunk",
    ),
    (
        {"target_length": 258, "train": {"batch_tokens": 2580, "sequence": 4}},
        4,
        "train.sequence",
        "4",
        "[1, 2]",
    ),
    ({"eval": {"sequence": 3}}, 6, "eval.sequence", "3", "[1, 2]"),
    ({"eval": {"every": 5}}, 1, "eval.every", "5", "eval.tasks"),
    ({"eval": {"every": 50, "tasks": {"a": {"kind": "needles"}}}}, 1, "eval.every", "50", "lower"),
    ({"train": {"schedule": {"warmup": 20}}}, 1, "train.schedule.warmup", "20", "lower"),
    ({"train": {"schedule": {"kind": "constant", "floor": 0.1}}}, 1, "train.schedule.floor", "0.1", "remove"),
    ({"data": {"tokens": 100}}, 1, "data.tokens", "100", "leave it out"),
    ({"data": {"length": 512}}, 1, "data.length", "512", "lower"),
    ({"data": {"length": 192}}, 1, "train.batch_tokens", "data.length 192", "960 or 1152"),
    ({"data": {"length": 129}, "train": {"sequence": 2}}, 2, "train.sequence", "129", "[1]"),
    ({"data": SKIP}, 1, "data.sources.text.positions", "skip", "data.length"),
    (
        {"data": SKIP | {"length": 128}, "rope": {"kind": "dca"}},
        1,
        "data.sources.text.positions",
        "dca",
        "remove",
    ),
    ({"model": {"config": None}}, 1, "model.path", "models/x", "correct the path"),
    ({"model": {"config": {"model_type": "lama"}}}, 1, "model: config.model_type", "'lama'", "supported"),
    ({"model": {"config": {"model_type": "gpt2"}}}, 1, "model", "gpt2", ""),
    (
        {"model": {"config": {"no_rope_layers": [1, 0], "attn_scale": 2}}},
        1,
        "model: config.attn_scale",
        "2",
        "remove",
    ),
    ({"original_length": 512}, 1, "rope", "256", ""),
    (
        {"model": {"config": {"hidden_size": 2**63}}},
        1,
        "model: config.hidden_size",
        "9223372036854775808",
        "",
    ),
    (
        {"stages": [{"target_length": 256}, {"target_length": 128}], "target_length": 128},
        1,
        "stages[1].target_length",
        "128",
        "reorder",
    ),
]


@pytest.mark.parametrize(("change", "world", "key", "value", "cure"), BAD_TOGETHER)
def test_bad_together(change: dict[str, Any], world: int, key: str, value: str, cure: str):
    found = [line for line in problems_of(recipe(change), world) if line.startswith(key)]
    assert any(value in line and cure in line for line in found), problems_of(recipe(change), world)


@pytest.mark.parametrize(
    ("change", "value", "cure"),
    [
        ({"hiden_size": 4}, "'hiden_size'", "'hidden_size'"),
        ({"model_type": "lama"}, "'lama'", "correct"),
        ({"intermediate_size": -5}, "-5", "correct"),
        ({"hidden_act": "gelux"}, "'gelux'", "correct"),
        ({"hidden_size": "x"}, "'hidden_size'", "correct"),
    ],
)
def test_what_transformers_would_not_read_is_found_where_it_is_at_hand(
    change: dict[str, Any], value: str, cure: str
):
    (line,) = config_problems(recipe({"model": {"config": change}}).model)
    assert line.startswith((f"model.config.{next(iter(change))}: ", "model.config: "))
    assert value in line
    assert cure in line
    assert not list(config_problems(recipe().model))


def test_all_problems_come_at_once_and_a_sound_recipe_has_none():
    assert problems_of(recipe(), 1) == []
    assert problems_of(recipe({"train": {"sequence": 4}}), 4) == []
    wrong = {"target_length": 64, "train": {"batch_tokens": 100, "sequence": 3, "schedule": {"warmup": 99}}}
    keys = {line.partition(":")[0] for line in problems_of(recipe(wrong), 3)}
    assert keys == {"target_length", "train.batch_tokens", "train.sequence", "train.schedule.warmup"}


def test_packs_may_be_shorter_than_the_window():
    skipping = recipe({"data": SKIP | {"length": 128}})
    assert (skipping.pack_length, skipping.target_length) == (128, 256)
    assert problems_of(skipping, 1) == []
    shorter = recipe({"data": {"sources": {"text": {"positions": "skip"}}}})  # documents may be
    assert problems_of(shorter, 1) == []
    assert recipe().pack_length == 256


def test_a_model_from_scratch_may_have_any_target():
    scratch = {"model": {"path": None, "tokenizer": "tok"}, "target_length": 64, "rope": {"kind": "default"}}
    assert problems_of(recipe(scratch), 1) == []


def test_the_folder_is_read_and_must_agree_with_the_stated_facts(tmp_path: Path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama", **CONFIG, "hidden_size": 128}))
    stated = recipe({"model": {"path": str(tmp_path)}})
    (problem,) = problems_of(stated, 1)
    assert problem.startswith("model.config.hidden_size")
    assert "128" in problem
    read = recipe({"model": {"path": str(tmp_path), "config": None}})
    assert model_facts(read).heads == [(8, 2)]
    assert problems_of(read, 1) == []


def test_a_broken_config_is_named(tmp_path: Path):
    (tmp_path / "config.json").write_text("{")
    broken = recipe({"model": {"path": str(tmp_path), "config": None}})
    assert [line for line in problems_of(broken, 1) if "config.json: must be JSON" in line]


def test_a_folder_in_the_place_of_a_text_is_named(tmp_path: Path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama", **CONFIG}))
    (tmp_path / "generation_config.json").mkdir()
    (problem,) = problems_of(recipe({"model": {"path": str(tmp_path)}}), 1)
    assert "generation_config.json: must be a file" in problem


def test_missing_files_are_for_real_runs(tmp_path: Path):
    found = missing_files(recipe())
    assert [line.partition(":")[0] for line in found] == ["model.path", "model.tokenizer"]
    for name in ("config.json", "tokenizer.json"):
        (tmp_path / name).write_text("{}")
    save_file({"weight": torch.zeros(1)}, tmp_path / "model.safetensors")
    assert missing_files(recipe({"model": {"path": str(tmp_path)}})) == []
    (tmp_path / "model.safetensors").unlink()
    [line] = missing_files(recipe({"model": {"path": str(tmp_path)}}))
    assert "weights: must be in model.safetensors" in line


def test_what_a_chunk_and_more_ranks_than_heads_allow():
    sound = [
        ({"train": {"sequence": 16, "chunk": 64, "store": {"device_layers": 1}}}, 16),
        ({"train": {"sequence": 16, "heads": 2, "keep_attention": True}, "eval": {"sequence": 16}}, 16),
        ({"model": {"config": {"resid_pdrop": 0.1, "attention_dropout": 0.0}}}, 1),
        ({"train": {"kernel": "varlen", "dtype": "bfloat16"}}, 1),
        ({"train": {"micro_batch": 2**17, "batch_tokens": 2**25, "dtype": "float32"}}, 1),
        ({"train": {"sequence": 1}, "stages": [{}, {"train": {"sequence": 2}}]}, 2),
    ]
    for change, world in sound:
        assert problems_of(recipe(change), world) == []


def test_capped_logits_are_refused_since_no_head_here_caps():
    [line] = head_problems(ModelFacts(config={"final_logit_softcapping": 30.0}, bases={}))
    assert line.startswith("model.config.final_logit_softcapping: ")
    assert "got 30.0" in line
    assert not [*head_problems(ModelFacts(config={"final_logit_softcapping": None}, bases={}))]
