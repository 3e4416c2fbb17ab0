"""The recipe schema: types, errors with key and cure, stages, fingerprint, differences."""

import copy
import json
from typing import Any

import pytest
from world.recipes import VALUES, changed, recipe

from ropewalk.recipes.language.catalogue import shipped
from ropewalk.recipes.language.compose import compose
from ropewalk.recipes.language.errors import RecipeError
from ropewalk.recipes.language.layers import merge
from ropewalk.recipes.language.schema import numbers, parse, stages
from ropewalk.rope import make_scheme
from ropewalk.train.settings import differing


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


def text(**more: Any) -> dict[str, Any]:
    return {"data": {"sources": {"text": more}}}


BAD_INPUT = [
    ({"trian": 1}, "trian", "'trian'", "'train'"),
    ({"base": ["x.yaml"]}, "base", "'base'", "known"),
    ({"target_length": "128k"}, "target_length", "'128k'", "131072"),
    ({"target_length": True}, "target_length", "True", "integer"),
    ({"target_length": 256.5}, "target_length", "256.5", "integer"),
    ({"target_length": 0}, "target_length", "0", "greater than 0"),
    ({"target_length": 2**63}, "target_length", "9223372036854775808", "less than or equal"),
    ({"original_length": 2**63}, "original_length", "9223372036854775808", "less than or equal"),
    ({"run_dir": None}, "run_dir", "nothing", "add"),
    ({"run_dir": "~nobody-here/x"}, "run_dir", "~nobody-here/x", "without the ~"),
    ({"model": {"path": None, "config": None}}, "model", "neither", "path"),
    ({"model": {"path": None}}, "model", "none", "tokenizer"),
    ({"model": {"paht": "x"}}, "model.paht", "'paht'", "'path'"),
    ({"rope": {"kind": "yarm"}}, "rope", "'yarm'", "yarn"),
    ({"rope": {"kind": "default", "attention_scale": 1.1}}, "rope", "attention_scale", "no knobs"),
    ({"rope": {"beta_fst": 16}}, "rope", "beta_fst", "did you mean 'beta_fast'?"),
    ({"eval": {"tasks": {"a": {"kind": "needles", "depth": [0]}}}}, "eval.tasks.a.depth", "0", "'depths'?"),
    (
        text(transform={"kind": "interleave", "chunk": 2}),
        "data.sources.text.transform.chunk",
        "2",
        "'chunks'?",
    ),
    ({"rope": {"beta_fast": -1}}, "rope", "-1", "32"),
    ({"rope": {"beta_fast": None}}, "rope.beta_fast", "None", "32"),
    ({"rope": {"factor": True}}, "rope.factor", "True", "derive"),
    ({"rope": {"kind": "harpe", "bases": 3}}, "rope.bases", "3", "list of thetas"),
    ({"rope": {"kind": "resonance", "of": {"kind": "yarn", "factor": 0}}}, "rope.yarn.factor", "0", "derive"),
    ({"data": {"sources": {"texts": None}}}, "data.sources.texts", "None", "correct the key"),
    ({"train": {"optimizer": {"cilp": None}}}, "train.optimizer.cilp", "'cilp'", "'clip'"),
    ({"rope": {"replace": "yes"}}, "rope.replace", "'yes'", "true or false"),
    ({"data": {"sources": {"text": {"wieght": 1.0}}}}, "data.sources.text.wieght", "'wieght'", "'weight'"),
    ({"data": {"sources": {"text": {"weight": 0.5}}}}, "data.sources", "0.5", "sum to 1"),
    ({"data": {"sources": {"text": {"kind": "film"}}}}, "data.sources.text", "'film'", "files"),
    ({"train": 5}, "train", "5", "mapping"),
    ({"train": {"steps": None}}, "train.steps", "nothing", "add"),
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
    ({"eval": {"tasks": {"a": {"kind": "b"}}}}, "eval.tasks.a", "'b'", "needles"),
    ({"eval": {"tasks": {"a": {"kind": "needles", "lengths": [0]}}}}, "eval.tasks.a.lengths", "0", ""),
    (
        {"eval": {"tasks": {"a": {"kind": "needles", "per_cell": "4"}}}},
        "eval.tasks.a.per_cell",
        "'4'",
        "quotes",
    ),
    (
        {"data": {"sources": {"text": {"transform": {"kind": "b"}}}}},
        "data.sources.text.transform.kind",
        "'b'",
        "",
    ),
    (
        {"data": {"sources": {"text": {"score": {"kind": "gzip_ratio", "keep": [1, 0]}}}}},
        "data.sources.text.score.keep",
        "[1.0, 0.0]",
        "swap",
    ),
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
    wrong["eval"] = {"tasks": {"a": {"kind": "needles", "depths": "top"}, "b": {"kind": "x"}}}
    wrong |= text(transform={"kind": "interleave", "chunks": 1, "documents": None})
    with pytest.raises(RecipeError) as caught:
        parse(changed(wrong), where="r.yaml")
    keys = ["trian", "target_length", "train.steps", "rope.kind", "eval.tasks.a.depths", "eval.tasks.b"]
    keys += ["data.sources.text.transform.chunks", "data.sources.text.transform.documents"]
    assert len(str(caught.value).splitlines()) == len(keys)
    assert all(f"r.yaml: {key}" in str(caught.value) for key in keys)


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


def test_a_stage_with_another_scheme_is_that_scheme_alone():
    values = changed({"rope": {"beta_fast": 16, "replace": True}, "stages": [{"rope": {"kind": "linear"}}]})
    (stage,) = stages(parse(values))
    assert (stage.rope.kind, stage.rope.knobs, stage.rope.replace) == ("linear", {}, False)


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
        {"eval": {"every": 5, "tasks": {"a": {"kind": "position_loss"}}}},
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


SHIPPED = {
    "compare-tiny": ["a7b55cd7f1d5edee"],
    "llama3-8b-8k-512k-abf": ["7c85e3a955cbfcdd", "8533ed11fbd747c7"],
    "qwen2.5-7b-32k-1m-yarn": ["2cab1bd135d03967"],
    "tiny-512-4k-longrope": ["16e3a1f6e54de31e"],
    "tiny-512-4k-yarn": ["1a534e956fa7fe67"],
    "tiny-base": [
        "27ea247810d1d2f6",
        "5a53dc8cfe93668e",
        "de3fd12962655668",
        "12cfb24365154bc9",
        "59b3af6b706461b6",
    ],
}
"what the checkpoints of shipped recipes carry, so that they can be continued; compare-tiny by no scheme"


def test_fingerprints_of_shipped_recipes_stay():
    for file in shipped():
        values = compose(file)
        if values.pop("compare", None):
            values["rope"] = {"kind": "default"}
        assert [stage.fingerprint[:16] for stage in stages(parse(values))] == SHIPPED[file.stem], file.stem


def test_difference_names_each_field():
    other = recipe({"target_length": 512, "train": {"optimizer": {"clip": 0.5}}, "rope": {"beta_fast": 16}})
    ours, theirs = (one.model_dump(mode="json") for one in (recipe(), other))
    assert differing(ours, theirs) == [
        "rope.beta_fast: absent, not 16",
        "target_length: 256, not 512",
        "train.optimizer.clip: 1.0, not 0.5",
    ]
    assert differing(ours, ours) == []


def test_difference_of_numbers_survives_json():
    kept = json.loads(json.dumps(numbers(recipe())))
    assert differing(numbers(recipe()), kept) == []
    assert differing(numbers(recipe({"train": {"seed": 1}})), kept) == ["train.seed: 1, not 0"]
