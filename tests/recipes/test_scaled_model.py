"""A model that is scaled already and does not say from what: every verb that would compute from it asks."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from world.command_line import Ended

Run = Callable[..., Ended]
BOTH = ("64 (max_position_embeddings as it stands)", "16 (64 divided by the factor 4)")


@pytest.fixture
def scaled(made: Path, tmp_path: Path) -> Path:
    """A copy of the drawn model whose config has linear scaling by 4, as people published it."""
    folder = tmp_path / "scaled"
    shutil.copytree(made / "model", folder)
    config = json.loads((folder / "config.json").read_text())
    del config["rope_parameters"]
    config |= {"rope_theta": 10000.0, "rope_scaling": {"type": "linear", "factor": 4.0}}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture
def commands(scaled: Path, recipe_file: Path, tmp_path: Path) -> dict[str, list[Any]]:
    """The verbs that choose new frequencies."""
    model, values = f"model.path={scaled}", yaml.safe_load(recipe_file.read_text())
    comparing = {name: values[name] for name in values if name != "rope"}
    comparison = tmp_path / "comparison.yaml"
    compare = {"schemes": [{"kind": "linear"}, {"kind": "yarn"}], "factors": [8], "learning_rates": [1e-3]}
    comparison.write_text(yaml.safe_dump(comparing | {"compare": compare}))
    return {
        "check": ["recipes", "check", recipe_file, model],
        "extend": ["extend", recipe_file, model, "--dry-run"],
        "evaluate": ["evaluate", scaled, "--recipe", recipe_file, "--scheme", "yarn", "--dry-run"],
        "search": ["rope", "search", recipe_file, model, "--dry-run"],
        "compare": ["compare", comparison, model, "--dry-run"],
    }


@pytest.mark.parametrize("verb", ["check", "extend", "evaluate", "search", "compare"])
def test_it_asks_for_the_original_length(run: Run, commands: dict[str, list[Any]], verb: str) -> None:
    refused = run(*commands[verb])
    assert refused.exit_code == 2, refused.output
    assert all(reading in refused.stderr for reading in BOTH), refused.output
    stated = run(*commands[verb], "original_length=16")
    assert stated.exit_code == 0, stated.output


def test_show_asks_too(run: Run, run_json: Callable[..., Any], scaled: Path) -> None:
    show = ("rope", "show", "yarn", "--model", scaled, "--target-length", 128)
    refused = run(*show)
    assert (refused.exit_code, all(reading in refused.stderr for reading in BOTH)) == (2, True)
    assert run_json(*show, "--original-length", 16)["factor"] == 8


def test_as_it_is_it_is_measured_and_verified(
    run: Run, run_json: Callable[..., Any], scaled: Path, recipe_file: Path
) -> None:
    plan = run("evaluate", scaled, "--recipe", recipe_file, "--dry-run")
    assert plan.exit_code == 0, plan.output
    assert "original length not stated" in " ".join(plan.stdout.split())
    told = run_json("verify", scaled)
    assert told["verified"]
    assert told["trained"]["original_length"] is None
    assert set(told["trained"]["original_length_may_be"]) == {"64", "16"}
    shown = " ".join(run("verify", scaled).stdout.split())
    assert all(reading in shown for reading in BOTH)
