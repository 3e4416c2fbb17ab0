"""From files to values: bases, overrides, interpolation, and what is refused on the way."""

import json
from pathlib import Path
from typing import Any

import pytest

from ropewalk.recipes.language.catalogue import LIBRARY, find, headline, shipped
from ropewalk.recipes.language.compose import compose, dropped, load
from ropewalk.recipes.language.errors import RecipeError
from ropewalk.recipes.language.layers import merge
from ropewalk.recipes.language.yaml_text import parse_yaml


def write(folder: Path, **files: str) -> Path:
    """Write NAME.yaml files and give the first."""
    for name, text in files.items():
        (folder / f"{name}.yaml").write_text(text)
    return folder / f"{next(iter(files))}.yaml"


def test_a_recipe_is_laid_over_its_bases_in_order(tmp_path: Path):
    top = write(
        tmp_path,
        top="base: [one.yaml, two.yaml]\na: {x: 3}",
        one="a: {x: 1, y: 1, z: 1}\nlist: [1, 2]",
        two="a: {y: 2}\nlist: [3]",
    )
    assert compose(top) == {"a": {"x": 3, "y": 2, "z": 1}, "list": [3]}


def test_bases_have_bases_and_are_found_beside_the_file_that_names_them(tmp_path: Path):
    (tmp_path / "deep").mkdir()
    write(tmp_path / "deep", one="base: [two.yaml]\na: 1", two="b: 2")
    assert compose(write(tmp_path, top="base: [deep/one.yaml]\nc: 3")) == {"a": 1, "b": 2, "c": 3}


def test_a_shipped_base_is_found_from_anywhere(tmp_path: Path):
    values = compose(write(tmp_path, top="base: [models/tiny.yaml]"))
    assert values["model"]["config"]["num_key_value_heads"] == 4


def test_one_base_may_come_by_two_ways(tmp_path: Path):
    files = {"top": "base: [a.yaml, b.yaml]", "a": "base: [c.yaml]\nx: 1", "b": "base: [c.yaml]", "c": "x: 0"}
    assert compose(write(tmp_path, **files)) == {"x": 0}


def test_a_stage_has_bases_under_its_own_difference(tmp_path: Path):
    top = write(
        tmp_path,
        top="a: 0\nstages: [{base: [one.yaml, two.yaml], a: {x: 3}}, {b: 5}]",
        one="a: {x: 1, y: 1}",
        two="base: [one.yaml]\nb: 2",
    )
    assert compose(top) == {"a": 0, "stages": [{"a": {"x": 3, "y": 1}, "b": 2}, {"b": 5}]}


def test_corpora_lie_where_it_is_said(tmp_path: Path):
    top = write(tmp_path, top="paths: ['${corpora}/books']")
    assert compose(top) == {"paths": ["corpora/books"]}
    assert compose(top, ["corpora=/data"]) == {"paths": ["/data/books"]}


def test_interpolation_takes_the_final_value(tmp_path: Path):
    top = write(tmp_path, top="n: 4\nm: ${n}\ns: a-${n}")
    assert compose(top, ["n=8"]) == {"n": 8, "m": 8, "s": "a-8"}


def test_assets_do_not_depend_on_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    assert compose("tiny-base")["model"]["tokenizer"] == str(LIBRARY / "assets" / "tiny-base")
    assert "assets" not in compose("tiny-base")


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("a.x=2", {"a": {"x": 2, "y": 1}, "s": [{"n": 1}, {"n": 2, "m": 3}]}),
        ("a.x=1e-3", {"a": {"x": 1e-3, "y": 1}, "s": [{"n": 1}, {"n": 2, "m": 3}]}),
        ("a={x: 5}", {"a": {"x": 5, "y": 1}, "s": [{"n": 1}, {"n": 2, "m": 3}]}),
        ("n.k=v", {"a": {"x": 0, "y": 1}, "s": [{"n": 1}, {"n": 2, "m": 3}], "n": {"k": "v"}}),
        ("s[1].n=9", {"a": {"x": 0, "y": 1}, "s": [{"n": 1}, {"n": 9, "m": 3}]}),
        ("s.0={k: 1}", {"a": {"x": 0, "y": 1}, "s": [{"n": 1, "k": 1}, {"n": 2, "m": 3}]}),
        ("s=[]", {"a": {"x": 0, "y": 1}, "s": []}),
        ("a.x=null", {"a": {"y": 1}, "s": [{"n": 1}, {"n": 2, "m": 3}]}),
        ("a.z=null", {"a": {"x": 0, "y": 1, "z": None}, "s": [{"n": 1}, {"n": 2, "m": 3}]}),
        ("a={}", {"a": {}, "s": [{"n": 1}, {"n": 2, "m": 3}]}),
        ("s[1].m=null", {"a": {"x": 0, "y": 1}, "s": [{"n": 1}, {"n": 2}]}),
    ],
)  # fmt: skip
def test_overrides(tmp_path: Path, override: str, expected: dict[str, Any]):
    top = write(tmp_path, top="a: {x: 0, y: 1}\ns: [{n: 1}, {n: 2, m: 3}]")
    assert compose(top, [override]) == expected


def test_the_last_override_wins():
    values = compose("tiny-512-4k-yarn", ["train.seed=1", "train.seed=2"])
    assert values["train"]["seed"] == 2


def test_only_among_overrides_of_one_key_does_the_order_decide():
    over = ["rope.replace=true", "rope.kind=linear", "data.sources.facts.facts=2", "data.sources={}"]
    over += ["data.sources.facts={kind: facts, text: code, weight: 1}"]
    for overrides in (over, over[::-1]):
        values = compose("tiny-512-4k-yarn", overrides)
        assert values["rope"] == {"kind": "linear", "replace": True}
        assert values["data"]["sources"] == {
            "facts": {"kind": "facts", "text": "code", "weight": 1, "facts": 2}
        }


KINDS = [
    ("rope", {"kind": "yarn", "beta_fast": 16, "replace": True}, {"kind": "linear"}),
    ("data.sources.a", {"kind": "files", "paths": ["x"], "weight": 1}, {"kind": "pool", "of": "b"}),
    ("data.sources.a.transform", {"kind": "interleave", "chunks": 3}, {"kind": "other"}),
    ("data.sources.a.score", {"kind": "gzip_ratio", "keep": [0, 1]}, {"kind": "other"}),
    ("train.schedule", {"kind": "cosine", "warmup": 3, "floor": 0.5}, {"kind": "constant"}),
    ("eval.tasks.a", {"kind": "needles", "lengths": [4]}, {"kind": "position_loss"}),
]


@pytest.mark.parametrize(("key", "old", "new"), KINDS, ids=lambda part: part if isinstance(part, str) else "")
def test_another_kind_takes_the_place_of_the_whole_mapping(
    tmp_path: Path, key: str, old: dict[str, Any], new: dict[str, Any]
):
    below, above = (_at(key, value) for value in (old, new))
    top = write(tmp_path, top=json.dumps({"base": ["low.yaml"]} | above), low=json.dumps(below))
    assert compose(top) == above
    assert compose(tmp_path / "low.yaml", [f"{key}={json.dumps(new)}"]) == above
    assert merge(below, _at(key, {**new, "kind": old["kind"]})) == _at(
        key, {**old, **new, "kind": old["kind"]}
    )


def test_what_another_kind_takes_away_is_told(tmp_path: Path):
    schedule = {"kind": "cosine", "warmup": 3, "floor": 0.5}
    file = write(tmp_path, low=json.dumps(_at("train.schedule", schedule)))
    [line] = dropped(file, ["train.schedule.warmup=9", "train.schedule.kind=constant"])
    assert line.startswith("train.schedule.kind=constant: ")
    assert "cosine: floor 0.5" in line
    assert not list(dropped(file, ["train.schedule.kind=cosine", "train.steps=3"]))


def test_a_kind_alone_can_be_taken_away(tmp_path: Path):
    file = write(tmp_path, low="rope: {kind: yarn, replace: true}")
    assert compose(file, ["rope.kind=null"]) == {"rope": {"replace": True}}


def _at(key: str, value: dict[str, Any]) -> dict[str, Any]:
    for part in reversed(key.split(".")):
        value = {part: value}
    return value


def test_what_is_inherited_can_be_taken_away(tmp_path: Path):
    top = write(
        tmp_path,
        top="base: [low.yaml]\na: {x: null, y: {}}\nb: null\nstages: [{a: {z: null}}, {a: {v: null}}]",
        low="a: {x: 1, y: {p: 1}, z: 2}\nb: {q: 1}",
    )
    values = compose(top)
    assert values == {"a": {"y": {}, "z": 2}, "stages": [{"a": {"z": None}}, {"a": {"v": None}}]}
    first = merge(values, values["stages"][0])["a"]
    assert first == {"y": {}}
    assert merge({"a": first}, values["stages"][1])["a"] == {
        "y": {},
        "v": None,
    }  # nothing was there: an error


def test_in_a_model_s_config_a_null_is_a_value():
    below = {"model": {"path": "x", "config": {"sliding_window": 4096, "head_dim": 8}}}
    window = merge(below, {"model": {"path": None, "config": {"sliding_window": None}}})
    assert window == {"model": {"config": {"sliding_window": None, "head_dim": 8}}}
    assert merge(below, {"model": {"config": None}}) == {"model": {"path": "x"}}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 1e-3), ("-2.5E+4", -2.5e4), (".5", 0.5), ("5.", 5.0), (".inf", float("inf")),
        ("131_072", 131072), ("-7", -7), ("010", 10), ("1.", 1.0),
        ("true", True), ("False", False), ("null", None), ("~", None), ("", None),
        ("yes", "yes"), ("off", "off"), ("12:30", "12:30"), ("2026-01-01", "2026-01-01"), ("128k", "128k"),
        ("1.2.3", "1.2.3"), ("'5'", "5"), ("e5", "e5"), ("_1", "_1"), ("[1, 2e3]", [1, 2000.0]),
    ],
)  # fmt: skip
def test_yaml_types(text: str, value: Any):
    read = parse_yaml(text, where="test")
    assert read == value
    assert type(read) is type(value)


def test_yaml_anchors_merge():
    assert parse_yaml("a: &a {x: 1}\nb: {<<: *a, y: 2}", where="test") == {
        "a": {"x": 1},
        "b": {"x": 1, "y": 2},
    }


BAD_INPUT = [
    ("a: 1\na: 2", [], "'a'", "remove"),
    ("a:\n  b: 1\n  b: 2", [], "line 3", "remove"),
    ("1: x", [], "1", "quote"),
    ("a: [1", [], "line", "quotes"),
    ("a: 'x", [], "YAML", "quotes"),
    ("- 1", [], "list", "show"),
    ("", [], "an empty file", "show"),
    ("base: x.yaml", [], "'x.yaml'", "base: ["),
    ("base: [gone.yaml]", [], "gone.yaml", "correct"),
    ("base: [top.yaml]", [], "top.yaml -> top.yaml", "remove"),
    ("base: [loop.yaml]", [], "top.yaml -> loop.yaml -> top.yaml", "remove"),
    ("stages: [{base: x.yaml}]", [], "stages[0].base", "base: ["),
    ("stages: [{base: [top.yaml]}]", [], "top.yaml -> top.yaml", "remove"),
    ("a: ${b}", [], "b", "correct"),
    ("a: ${a}", [], "a", "correct"),
    ("a: 1", ["b"], "'b'", "key=value"),
    ("a: 1", ["a="], "none", "a=null"),
    ("a: 1", ["=5"], "'=5'", "key=value"),
    ("a: 1", ["--b=5"], "--b", "key=value"),
    ("a: 1", ["b=[1"], "b=[1", "quotes"),
    ("a: [1]", ["a[1]=5"], "1", "correct"),
    ("a: [1]", ["a.b=5"], "'b'", "correct"),
]


@pytest.mark.parametrize(("text", "overrides", "value", "cure"), BAD_INPUT)
def test_bad_input(tmp_path: Path, text: str, overrides: list[str], value: str, cure: str):
    top = write(tmp_path, top=text, loop="base: [top.yaml]")
    with pytest.raises(RecipeError) as caught:
        compose(top, overrides)
    assert value in str(caught.value)
    assert cure in str(caught.value)


def test_a_file_that_is_not_utf8_is_named(tmp_path: Path):
    (tmp_path / "top.yaml").write_bytes(b"a: caf\xe9")
    with pytest.raises(RecipeError, match=r"top\.yaml: must be UTF-8.*re-encode"):
        compose(tmp_path / "top.yaml")


def test_recipes_are_found_by_path_and_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    mine = write(tmp_path, mine="a: 1")
    monkeypatch.chdir(tmp_path)
    assert find("mine") == find("mine.yaml") == find(str(mine)) == mine.resolve()
    assert find("tiny-base") == LIBRARY / "tiny/tiny-base.yaml"


@pytest.mark.parametrize(
    ("name", "cure"), [("tiny-bse", "tiny-base"), ("x/tiny-base", "tiny-base"), ("qqq", "shipped")]
)
def test_an_unknown_recipe_names_the_nearest(name: str, cure: str):
    with pytest.raises(RecipeError, match=cure):
        find(name)


def test_load_names_the_recipe_in_every_problem():
    with pytest.raises(ValueError, match=r"tiny-base: train\.zero_stage") as caught:
        load("tiny-base", ["train.zero_stage=7", "run_dir=1"])
    assert "tiny-base: run_dir" in str(caught.value)


def test_every_shipped_recipe_says_what_it_does():
    assert all(len(headline(file)) > 20 for file in shipped())


def test_a_problem_of_a_base_names_the_base(tmp_path: Path):
    files = {
        "top": "base: [tiny-512-4k-yarn.yaml, low.yaml]\ntrain: {seed: x}",
        "low": "train: {steps: x, keep: x}",
    }
    with pytest.raises(RecipeError) as caught:
        load(write(tmp_path, **files), ["train.keep=y"])
    top = tmp_path / "top.yaml"
    said = {line.partition(" must")[0]: line for line in str(caught.value).splitlines()}
    assert said[f"{top}: train.steps:"].endswith(f"(it stands in {tmp_path / 'low.yaml'})")
    assert not any("stands" in said[f"{top}: train.{key}:"] for key in ("seed", "keep"))
