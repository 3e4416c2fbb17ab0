"""Every recipe of the package composes, checks and plans at the size it is meant for."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from world.command_line import Ended

from ropewalk.recipes.language.catalogue import BASES, LIBRARY, shipped
from ropewalk.recipes.language.check import problems_of
from ropewalk.recipes.language.compose import load
from ropewalk.recipes.language.schema import stages

EVERY = sorted(file for file in LIBRARY.rglob("*.yaml") if "assets" not in file.parts)
COMPARISONS = [file for file in EVERY if file.name.startswith("compare-")]
RUNNABLE = [file for file in EVERY if file.parent.name not in BASES and file not in COMPARISONS]
WORLDS = {"tiny-base": 1, "llama3-8b-8k-512k-abf": 64, "qwen2.5-7b-32k-1m-yarn": 64}
"""Ranks a recipe is written for; 2 where it is not named."""


def test_there_are_recipes_each_in_a_folder_of_its_kind():
    assert len(RUNNABLE) >= 3
    assert len(EVERY) - len(shipped()) >= 4
    assert sorted(shipped()) == sorted(RUNNABLE + COMPARISONS)
    assert {file.parent.parent for file in EVERY} == {LIBRARY}


@pytest.mark.parametrize("file", RUNNABLE, ids=lambda file: file.stem)
def test_every_recipe_checks_and_plans(file: Path, run: Callable[..., Ended]):
    recipe = load(file)
    world = WORLDS.get(file.stem, 2)
    assert problems_of(recipe, world) == []
    result = run("extend", file.stem, "--dry-run", "--world", world)
    assert result.exit_code == 0, result.output
    assert result.stdout.count("world ") == len(stages(recipe))


@pytest.mark.parametrize("file", COMPARISONS, ids=lambda file: file.stem)
def test_every_comparison_checks_and_plans(file: Path, run: Callable[..., Ended]):
    for words in (("compare", file.stem, "--dry-run"), ("recipes", "check", file.stem)):
        result = run(*words, "--world", 2)
        assert result.exit_code == 0, result.output
        assert "tokens trained" in result.stdout
    assert yaml.safe_load(run("recipes", "show", file.stem).stdout)["run_dir"] == f"runs/{file.stem}"
    refused = run("extend", file.stem, "--dry-run")
    assert refused.exit_code == 2
    assert f"ropewalk compare {file.stem}" in refused.stderr


@pytest.mark.parametrize("file", RUNNABLE, ids=lambda file: file.stem)
def test_names_say_what_the_recipe_does(file: Path):
    recipe = load(file)
    assert recipe.run_dir == f"runs/{file.stem}"
    if recipe.model.from_scratch:
        return
    *_, target, scheme = file.stem.split("-")
    tokens, unit = re.fullmatch(r"(\d+)([km]?)", target).groups()  # pyright: ignore[reportOptionalMemberAccess]
    assert int(tokens) * {"": 1, "k": 1024, "m": 1024**2}[unit] == recipe.target_length
    assert scheme == recipe.rope.kind


@pytest.mark.parametrize(
    "file",
    [file for file in EVERY if file.parent.name in {*BASES} - {"mixes"}],
    ids=lambda file: file.stem,
)
def test_every_base_is_used(file: Path):
    """Mixes are also there for recipes of others; test_mixes.py prepares each."""
    assert any(f"{file.parent.name}/{file.name}" in other.read_text() for other in EVERY if other != file)


@pytest.mark.parametrize("kind", ["default", "linear", "ntk", "abf", "yarn", "llama3"])
def test_the_default_recipe_takes_any_scheme(kind: str):
    assert problems_of(load("tiny-512-4k-yarn", [f"rope.kind={kind}"]), 2) == []


def test_the_published_thetas_and_batches_of_prolong():
    first, second = stages(load("llama3-8b-8k-512k-abf"))
    told = [
        (s.target_length, s.rope.knobs["theta"], s.train.batch_tokens, s.train.steps) for s in (first, second)
    ]
    assert told == [(65536, 8e6, 4 * 2**20, 5000), (524288, 1.28e8, 8 * 2**20, 2500)]
    assert (first.train.learning_rate, second.train.learning_rate) == (1e-5, 5e-6)
