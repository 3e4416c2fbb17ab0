"""What is told of prepared data: what training will not see, what was not read, what may have changed."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from world.command_line import Ended

from ropewalk.data import DataError, open_plan
from ropewalk.recipes.jobs.plan import RunPlan
from ropewalk.recipes.jobs.stores import require_prepared

Run = Callable[..., Ended]
RunJson = Callable[..., Any]


def test_what_training_does_not_see_of_a_padded_plan_is_said(
    run: Run, run_json: RunJson, recipe_file: Path, tmp_path: Path
):
    """Facts of 96 tokens do not share a pack of 128, so a quarter is padding and a third more packs are
    planned."""
    values = yaml.safe_load(recipe_file.read_text())
    facts = {"kind": "facts", "text": "text", "weight": 1.0, "length": 96, "facts": 1}
    values["data"]["sources"] = {"text": values["data"]["sources"]["text"] | {"weight": 0.0}, "facts": facts}
    values["train"] |= {"steps": 12, "accept_short_documents": True}
    recipe_file.write_text(yaml.safe_dump(values))
    told = run_json("prepare", recipe_file, "--dry-run")["seen"]
    report = run_json("prepare", recipe_file)
    plan = open_plan(report["folder"])
    tokens = sum(segment.length for number in range(48) for segment in plan[number].segments)
    trained = sum(plan.trained_tokens(number) for number in range(48))
    seen = {"asked_packs": 48, "held_packs": 64, "packs": 48, "most_steps": 0, "steps": 12}
    seen |= {"tokens": tokens, "trained_tokens": trained}
    assert (len(plan), report["seen"], tokens) == (64, seen, 48 * 96)
    assert told == {key: seen[key] for key in told}
    line = "training sees 4,608 of the 6,144 tokens that are held: 48 of 64 packs"
    for verb in (["prepare"], ["prepare", "--dry-run"], ["extend", "--dry-run"]):
        assert line in " ".join(run(verb[0], recipe_file, *verb[1:]).stdout.split()), verb
    assert "training sees" not in run("extend", recipe_file, "--dry-run", "train.steps=16").stdout
    assert run("prepare", recipe_file, "train.batch_tokens=64").exception is None  # less than a pack


def test_prepared_files_of_other_times_or_sizes_are_named_before_training(
    run: Run, recipe_file: Path, capsys: pytest.CaptureFixture[str]
):
    folder = Path(json.loads(run("prepare", recipe_file, "--json").stdout)["folder"])
    plan = RunPlan(str(recipe_file))
    require_prepared(plan)
    assert "other times" not in capsys.readouterr().out
    part = next((folder.parents[1] / "corpus/parts").glob("*.arrow"))
    os.utime(part, (1, 1))
    require_prepared(plan)
    said = " ".join(capsys.readouterr().out.split())
    assert f"other times than they were written at (parts/{part.name})" in said
    assert "--check" in said
    assert run("prepare", recipe_file, "--check").exit_code == 0
    require_prepared(plan)
    assert "other times" not in capsys.readouterr().out
    part.write_bytes(part.read_bytes()[:-8])
    with pytest.raises(DataError, match=rf"{part.name}: must have the .* bytes.*restore"):
        require_prepared(plan)


def test_unfinished_work_of_another_recipe_is_named(run: Run, run_json: RunJson, recipe_file: Path):
    assert run("prepare", recipe_file, "--tasks", "1/2", "data.holdout=0.3").exit_code == 0
    [(folder, size)] = run_json("prepare", recipe_file)["unfinished"].items()
    assert size == sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())
    assert "delete it if nobody" in run("prepare", recipe_file).stdout


def test_what_is_left_out_is_shown(run: Run, run_json: RunJson, recipe_file: Path, tmp_path: Path):
    (tmp_path / "text/tests").mkdir(parents=True)
    for name in ("a.txt", "b.txt", "tests/t.txt", "_SUCCESS"):
        (tmp_path / "text" / name).write_text("the rope is laid along a walk\n" * 200)
    given = (recipe_file, f"data.sources.text.paths=[{tmp_path}/text]", "data.holdout=0", "eval.tasks={}")
    told = run_json("prepare", *given, "--dry-run")["left_out"]
    assert run_json("prepare", *given)["left_out"] == told
    assert told == {
        "text": {"excluded": {"files": 1, "bytes": 6000}, "other_ending": {"files": 1, "bytes": 6000}}
    }
    for options in ([], ["--dry-run"]):
        said = run("prepare", *given, *options).stdout
        assert all(words in said for words in ("not read because", "other ending", "1 file, 6,000 bytes"))
