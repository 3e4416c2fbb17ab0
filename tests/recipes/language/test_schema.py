"""The recipe schema: types, errors with key and cure, stages, fingerprint, differences, cross checks."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from ropewalk.recipes.language.check import check, missing_files, model_facts, problems_of
from ropewalk.recipes.language.errors import RecipeError
from ropewalk.recipes.language.merge import merge
from ropewalk.recipes.language.schema import Recipe, difference, numbers, parse, stages
from ropewalk.rope import make_scheme
from ropewalk.train.settings import differing

CONFIG = {
    "num_hidden_layers": 1,
    "hidden_size": 64,
    "intermediate_size": 64,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "vocab_size": 128,
    "max_position_embeddings": 64,
    "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
}
VALUES: dict[str, Any] = {
    "run_dir": "runs/x",
    "target_length": 256,
    "model": {"path": "models/x", "config": CONFIG},
    "rope": {"kind": "yarn"},
    "data": {"sources": {"text": {"kind": "files", "weight": 1.0, "paths": ["corpus"]}}},
    "train": {"steps": 20, "batch_tokens": 1024, "learning_rate": 1e-3, "checkpoint_every": 10},
}


def changed(change: dict[str, Any]) -> dict[str, Any]:
    return merge(copy.deepcopy(VALUES), change)


def recipe(change: dict[str, Any] | None = None) -> Recipe:
    return parse(changed(change or {}))


def test_defaults_are_those_of_the_design():
    train = recipe().train
    assert (train.zero_stage, train.sequence, train.micro_batch, train.keep) == (2, 1, 1, 2)
    assert train.dtype == "float32"
    assert train.optimizer.betas == (0.9, 0.95)
    assert train.schedule.floor == 0.1


def test_recipe_is_frozen():
    with pytest.raises(ValueError, match="frozen"):
        recipe().target_length = 1  # pyright: ignore[reportAttributeAccessIssue]


def test_an_integer_is_a_number():
    assert recipe({"train": {"learning_rate": 1}}).train.learning_rate == 1.0


def test_rope_section_builds_its_scheme():
    section = recipe({"rope": {"beta_fast": 16, "replace": True}}).rope
    assert section.scheme == make_scheme("yarn", beta_fast=16)
    assert section.knobs == {"beta_fast": 16}


BAD_INPUT = [
    ({"trian": 1}, "trian", "'trian'", "'train'"),
    ({"base": ["x.yaml"]}, "base", "'base'", "known"),
    ({"target_length": "128k"}, "target_length", "'128k'", "131072"),
    ({"target_length": True}, "target_length", "True", "integer"),
    ({"target_length": 256.5}, "target_length", "256.5", "integer"),
    ({"target_length": 0}, "target_length", "0", "greater than 0"),
    ({"run_dir": None}, "run_dir", "None", "text"),
    ({"model": {"path": None, "config": None}}, "model", "neither", "path"),
    ({"model": {"path": None}}, "model", "none", "tokenizer"),
    ({"model": {"paht": "x"}}, "model.paht", "'paht'", "'path'"),
    ({"rope": {"kind": "yarm"}}, "rope", "'yarm'", "yarn"),
    ({"rope": {"kind": "default", "attention_scale": 1.1}}, "rope", "attention_scale", "no knobs"),
    ({"rope": {"beta_fast": -1}}, "rope", "-1", "32"),
    ({"rope": {"replace": "yes"}}, "rope.replace", "'yes'", "true or false"),
    ({"data": {"sources": {"text": {"wieght": 1.0}}}}, "data.sources.text.wieght", "'wieght'", "'weight'"),
    ({"data": {"sources": {"text": {"weight": 0.5}}}}, "data.sources", "0.5", "sum to 1"),
    ({"data": {"sources": {"text": {"kind": "film"}}}}, "data.sources.text", "'film'", "files"),
    ({"train": 5}, "train", "5", "mapping"),
    ({"train": {"steps": None}}, "train.steps", "None", "integer"),
    ({"train": {"steps": 0}}, "train.steps", "0", "greater than 0"),
    ({"serve": ["vlm"]}, "serve[0]", "vlm", "correct"),
    ({"train": {"learning_rate": "1e-3"}}, "train.learning_rate", "'1e-3'", "without quotes"),
    ({"train": {"learning_rate": float("nan")}}, "train.learning_rate", "nan", "finite"),
    ({"train": {"zero_stage": 4}}, "train.zero_stage", "4", "0, 1, 2 or 3"),
    ({"train": {"deterministic": "yes"}}, "train.deterministic", "'yes'", "true or false"),
    ({"train": {"deterministic": 1}}, "train.deterministic", "1", "true or false"),
    ({"train": {"optimizer": {"betas": [0.9]}}}, "train.optimizer.betas", "", "add it"),
    ({"train": {"optimizer": {"betas": [0.9, 1.5]}}}, "train.optimizer.betas", "1.5", "[0.9, 0.95]"),
    ({"train": {"optimizer": {"no_decay": "*norm*"}}}, "train.optimizer.no_decay", "'*norm*'", "list"),
    ({"train": {"schedule": {"kind": "cosin"}}}, "train.schedule.kind", "'cosin'", "'cosine'"),
    ({"train": {"schedule": {"floor": 2}}}, "train.schedule.floor", "2", "less than or equal"),
    ({"train": {"dtype": "fp16"}}, "train.dtype", "'fp16'", "bfloat16"),
    ({"train": {"kernel": "fast"}}, "train.kernel", "'fast'", "varlen"),
    ({"eval": {"tasks": {"a": {}}}}, "eval.tasks.a.kind", "nothing", "add"),
    ({"eval": {"every": -1}}, "eval.every", "-1", "greater than or equal"),
    ({"stages": {"a": 1}}, "stages", "'a'", "list"),
    ({"stages": [{"target_length": "1k"}]}, "stages[0].target_length", "'1k'", "1024"),
    ({"stages": [{"run_dir": "x"}]}, "stages[0].run_dir", "value", "remove"),
    ({"stages": [{"train": {"steps": 3}}]}, "train.steps", "20", "stages[0].train.steps"),
    ({"stages": [{"target_length": 128}]}, "target_length", "256", "stages[0].target_length"),
]


@pytest.mark.parametrize(("change", "key", "value", "cure"), BAD_INPUT)
def test_bad_input(change: dict[str, Any], key: str, value: str, cure: str):
    with pytest.raises(RecipeError) as caught:
        parse(changed(change), where="r.yaml")
    lines = [line for line in str(caught.value).splitlines() if line.startswith(f"r.yaml: {key}")]
    assert lines, caught.value
    assert any(value in line and cure in line for line in lines), lines


def test_all_problems_come_at_once():
    wrong = {"trian": 1, "target_length": "4k", "train": {"steps": -1}, "rope": {"kind": "x"}}
    with pytest.raises(RecipeError) as caught:
        parse(changed(wrong), where="r.yaml")
    text = str(caught.value)
    assert len(text.splitlines()) == 4
    assert all(f"r.yaml: {key}" in text for key in ("trian", "target_length", "train.steps", "rope.kind"))


def test_a_missing_key_is_named():
    values = copy.deepcopy(VALUES)
    del values["train"]["batch_tokens"]
    with pytest.raises(RecipeError, match=r"train\.batch_tokens: must be given"):
        parse(values)


def test_without_stages_there_is_one():
    assert stages(recipe()) == [recipe()]


def test_stages_are_differences_applied_in_order():
    values = changed({"stages": [{"target_length": 128, "train": {"seed": 7}}, {"target_length": 256}]})
    first, second = stages(parse(values))
    assert (first.target_length, second.target_length) == (128, 256)
    assert (first.train.seed, second.train.seed) == (7, 7)
    assert first.stages == second.stages == []


def test_what_every_stage_says_need_not_be_said_above():
    values = changed({"stages": [{"target_length": 128, "train": {"steps": 3}}, {"train": {"steps": 4}}]})
    del values["target_length"], values["train"]["steps"]
    staged = parse(values)
    assert [stage.train.steps for stage in stages(staged)] == [3, 4]
    assert staged.target_length == 128


def test_what_the_first_stage_leaves_out_must_be_said_above():
    values = changed({"stages": [{"train": {"seed": 1}}, {"target_length": 256}]})
    del values["target_length"]
    with pytest.raises(RecipeError, match="target_length: must be given"):
        parse(values)


def test_a_stage_with_another_scheme_drops_the_old_knobs_and_keeps_replace():
    values = changed({"rope": {"beta_fast": 16, "replace": True}, "stages": [{"rope": {"kind": "linear"}}]})
    (stage,) = stages(parse(values))
    assert (stage.rope.kind, stage.rope.knobs, stage.rope.replace) == ("linear", {}, True)


def test_merge_goes_deep_and_replaces_lists():
    below = {"a": {"b": 1, "c": [1, 2]}, "d": 1}
    assert merge(below, {"a": {"c": [3]}}) == {"a": {"b": 1, "c": [3]}, "d": 1}
    assert below["a"]["c"] == [1, 2]


@pytest.mark.parametrize(
    "change",
    [
        {"run_dir": "elsewhere"},
        {"model": {"path": "/other/disk/x"}},
        {"data": {"store": "/scratch", "engine": "tokenizers"}},
        {"eval": {"every": 5, "tasks": {"a": {"kind": "b"}}}},
        {"train": {"checkpoint_every": 1, "keep": 9, "kernel": "flex", "loss_chunk": 7}},
        {"train": {"sequence": 4, "zero_stage": 3, "micro_batch": 2, "gradient_checkpointing": False}},
    ],
)
def test_fingerprint_leaves_out_places_measuring_and_layout(change: dict[str, Any]):
    assert recipe(change).fingerprint == recipe().fingerprint


@pytest.mark.parametrize(
    "change",
    [
        {"target_length": 512},
        {"model": {"path": "models/y"}},
        {"rope": {"beta_fast": 16}},
        {"data": {"seed": 3}},
        {"train": {"learning_rate": 2e-3}},
        {"train": {"optimizer": {"clip": 0.5}}},
        {"train": {"dtype": "bfloat16"}},
    ],
)
def test_fingerprint_holds_what_changes_the_numbers(change: dict[str, Any]):
    assert recipe(change).fingerprint != recipe().fingerprint


def test_a_written_default_is_the_same_run():
    assert recipe({"train": {"schedule": {"kind": "cosine"}}}).fingerprint == recipe().fingerprint


def test_difference_names_each_field():
    other = recipe({"target_length": 512, "train": {"optimizer": {"clip": 0.5}}, "rope": {"beta_fast": 16}})
    assert difference(recipe(), other) == [
        "rope.beta_fast: absent, not 16",
        "target_length: 256, not 512",
        "train.optimizer.clip: 1.0, not 0.5",
    ]
    assert difference(recipe(), recipe()) == []


def test_difference_of_numbers_survives_json():
    kept = json.loads(json.dumps(numbers(recipe())))
    assert differing(numbers(recipe()), kept) == []
    assert differing(numbers(recipe({"train": {"seed": 1}})), kept) == ["train.seed: 1, not 0"]


SKIP = {"sources": {"text": {"groups": "pack", "positions": "skip"}}}
BAD_TOGETHER = [
    ({"target_length": 64}, 1, "target_length", "64", "raise"),
    ({"train": {"batch_tokens": 1000}}, 1, "train.batch_tokens", "1000", "768 or 1024"),
    ({"train": {"batch_tokens": 256}}, 2, "train.batch_tokens", "256", "512"),
    ({"train": {"micro_batch": 3}}, 1, "train.batch_tokens", "1024", "768"),
    ({"train": {"sequence": 2}}, 3, "train.sequence", "2", "[1]"),
    ({"train": {"sequence": 3}}, 6, "train.sequence", "3", "[1, 2]"),
    ({"train": {"sequence": 16}}, 16, "train.sequence", "16", "[1, 2, 4, 8]"),
    (
        {"target_length": 258, "train": {"batch_tokens": 2580, "sequence": 4}},
        4,
        "train.sequence",
        "4",
        "[1, 2]",
    ),
    ({"eval": {"sequence": 3}}, 6, "eval.sequence", "3", "[1, 2]"),
    ({"eval": {"every": 5}}, 1, "eval.every", "5", "eval.tasks"),
    ({"eval": {"every": 50, "tasks": {"a": {"kind": "b"}}}}, 1, "eval.every", "50", "lower"),
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
    ({"model": {"config": {"hiden_size": 4}}}, 1, "model.config.hiden_size", "'hiden_size'", "'hidden_size'"),
    ({"model": {"config": {"model_type": "lama"}}}, 1, "model.config.model_type", "'lama'", "correct"),
    ({"model": {"config": {"model_type": "gpt2"}}}, 1, "model", "gpt2", ""),
    ({"original_length": 512}, 1, "rope", "256", ""),
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


def test_check_lists_all_problems_and_passes_a_sound_recipe():
    check(recipe(), 1)
    check(recipe({"train": {"sequence": 4}}), 4)
    wrong = recipe(
        {"target_length": 64, "train": {"batch_tokens": 100, "sequence": 3, "schedule": {"warmup": 99}}}
    )
    with pytest.raises(RecipeError) as caught:
        check(wrong, 3, where="r.yaml")
    keys = ("target_length", "train.batch_tokens", "train.sequence", "train.schedule.warmup")
    assert all(f"r.yaml: {key}: " in str(caught.value) for key in keys)


def test_packs_may_be_shorter_than_the_window():
    skipping = recipe({"data": SKIP | {"length": 128}})
    assert (skipping.pack_length, skipping.target_length) == (128, 256)
    check(skipping, 1)
    check(recipe({"data": {"sources": {"text": {"positions": "skip"}}}}), 1)  # documents may be shorter
    assert recipe().pack_length == 256


def test_a_model_from_scratch_may_have_any_target():
    scratch = {"model": {"path": None, "tokenizer": "tok"}, "target_length": 64, "rope": {"kind": "default"}}
    check(recipe(scratch), 1)


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


def test_missing_files_are_for_real_runs(tmp_path: Path):
    found = missing_files(recipe())
    assert [line.partition(":")[0] for line in found] == ["model.path", "model.tokenizer"]
    for name in ("config.json", "tokenizer.json"):
        (tmp_path / name).write_text("{}")
    assert missing_files(recipe({"model": {"path": str(tmp_path)}})) == []
