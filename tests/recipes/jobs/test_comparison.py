"""A small comparison on ranks: its cells, what is not run again, what all cells share, what is refused."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from world.small_comparison import RATES

from ropewalk.data import open_plan
from ropewalk.eval.report.write import write_comparison
from ropewalk.recipes.jobs.comparison import run as module
from ropewalk.recipes.jobs.comparison.plan import ComparisonPlan
from ropewalk.recipes.jobs.comparison.recipe import read_comparison
from ropewalk.recipes.jobs.comparison.report import build_report
from ropewalk.recipes.jobs.comparison.run import ComparisonRun
from ropewalk.recipes.jobs.preparation import prepare_stage
from ropewalk.recipes.jobs.stores import plan_folder, require_prepared
from ropewalk.recipes.language.errors import RecipeError
from ropewalk.train.mesh import Mesh, join_world

Values = dict[str, Any]


class KilledError(Exception):
    """Stand for a kill between two cells."""


def compared(recipe: str, overrides: list[str], kill_at: int | None = None) -> Values | None:
    """Prepare and run a comparison on a rank; return its report, or None where it was killed.

    The kill comes at the training number `kill_at`, counted from 0.
    """
    plan = ComparisonPlan(recipe, overrides)
    join_world()
    mesh = Mesh.of_world()
    if mesh.is_main:
        for stage in plan.stages:
            prepare_stage(stage, workers=1)
    mesh.barrier()
    plans = dict(zip(plan.comparison.plans(), require_prepared(plan), strict=True))
    original, calls = module.train, 0

    def train(*arguments: Any) -> Path:
        nonlocal calls
        if calls == kill_at:
            raise KilledError
        calls += 1
        return original(*arguments)

    module.train = train  # type: ignore[assignment]
    try:
        outcomes = ComparisonRun(plan.comparison, plans, mesh, Console(quiet=True)).run()
    except KilledError:
        return None
    finally:
        module.train = original
    report = build_report(plan.comparison, outcomes, date="2026-01-02")
    if mesh.is_main:
        write_comparison(report, plan.comparison.run_dir)
    return report | {"trainings": calls}


@pytest.fixture(scope="module")
def finished(recipe: Path, ranks: Any) -> Values:
    [report] = ranks(1, timeout=100)(compared, str(recipe), [])
    return report


def results(run: Path) -> dict[str, Values]:
    """Read what every cell of a run left, by its title."""
    found = [json.loads(file.read_text()) for file in run.glob("cells/*/result.json")]
    return {one["title"]: one for one in found}


def items(result: Values, task: str) -> list[str]:
    return result["evaluation"]["results"][task]["cells"][0]["items"]


def test_every_cell_leaves_its_result(recipe: Path, finished: Values):
    found = results(recipe.parent / "run")
    free = {f"{kind} 4x training-free" for kind in ("linear", "yarn")}
    trained = {f"{kind} 4x trained {rate:g} seed 0" for kind in ("linear", "yarn") for rate in RATES}
    assert found.keys() == free | trained
    assert finished["trainings"] == 4
    for title, result in found.items():
        assert {"format", "fingerprint", "depends_on", "evaluation"} <= result.keys()
        assert (result["selection_loss"] is None) == (title in free)
        assert (result["train_seconds"] > 0) == (title in trained)
    assert not list(recipe.parent.glob("run/cells/*/checkpoints"))
    assert {row["cell"] for row in finished["cells"]} <= found.keys()


def test_the_files_of_a_report(recipe: Path, finished: Values):
    run = recipe.parent / "run"
    stored = json.loads((run / "report.json").read_text())
    assert stored["rankings"] == json.loads(json.dumps(finished["rankings"]))
    page = (run / "report.html").read_text()
    assert all(name in page for name in ("linear", "yarn", "stretch 4, factor 4", "a screening"))
    assert page.count("data:image/png;base64,") == len(list(run.glob("*.png"))) == 3
    assert "http" not in page.replace("http-equiv", "")


def test_all_cells_meet_the_same_samples_and_train_on_the_same_tokens(recipe: Path, finished: Values):
    found = results(recipe.parent / "run").values()
    for task in ("loss", "needles"):
        assert len({one["evaluation"]["results"][task]["items_fingerprint"] for one in found}) == 1
    assert len({one["depends_on"]["plan"] for one in found if "plan" in one["depends_on"]}) == 1
    assert finished["plans"] == {"4": [next(o["depends_on"]["plan"] for o in found if o["selection_loss"])]}


def test_schemes_meet_at_equal_stretch(finished: Values):
    for scheme in finished["schemes"]:
        setting = scheme["settings"]["4"]
        assert setting["matched"]
        assert setting["stretch"] == pytest.approx(4, rel=1e-9)


def test_the_better_learning_rate_is_taken_on_documents_that_are_not_reported(recipe: Path, finished: Values):
    found = results(recipe.parent / "run")
    for scheme in finished["schemes"]:
        losses = {
            rate: found[f"{scheme['scheme']} 4x trained {rate:g} seed 0"]["selection_loss"] for rate in RATES
        }
        assert losses[1e-2] < losses[1e-9] - 0.01  # three steps at the larger rate do train
        assert scheme["learning_rate"] == 1e-2
        assert scheme["selection_losses"] == {f"{rate:g}": loss for rate, loss in losses.items()}


def test_selection_and_reported_documents_are_apart(recipe: Path, finished: Values):
    from ropewalk.data import open_documents
    from ropewalk.eval.haystack import document_name
    from ropewalk.recipes.jobs.comparison.outcome import split_documents

    documents = open_documents(recipe.parent / "run" / "data")
    selection, reported = split_documents(documents)
    assert len(selection) == len(documents) // 4
    assert len(selection) + len(reported) == len(documents)
    chosen = {document_name(d) for d in selection}
    said = results(recipe.parent / "run")["yarn 4x trained 0.01 seed 0"]["selection_documents"]
    assert said
    assert set(said) <= chosen
    assert not chosen & {document_name(d) for d in reported}
    assert not chosen & set(items(results(recipe.parent / "run")["yarn 4x training-free"], "loss"))
    lengths = [np.mean([len(d.tokens) for d in part]) for part in (selection, reported)]
    assert lengths[0] == pytest.approx(lengths[1], rel=0.1)


@pytest.mark.parametrize("mode", ["training-free", "trained"])
def test_differences_are_formed_document_by_document(recipe: Path, finished: Values, mode: str):
    found = results(recipe.parent / "run")
    how = mode if mode == "training-free" else "trained 0.01 seed 0"
    values = {}
    for kind in ("linear", "yarn"):
        cells = found[f"{kind} 4x {how}"]["evaluation"]["results"]["loss"]["cells"]
        beyond = [cell for cell in cells if cell["start"] >= 64]
        tokens = np.array([cell["weights"] for cell in beyond])
        values[kind] = (np.array([cell["values"] for cell in beyond]) * tokens).sum(0) / tokens.sum(0)
    row = next(
        r for r in finished["rankings"] if (r["mode"], r["task"], r["side"]) == (mode, "loss", "beyond")
    )
    [other] = row["gains"]
    assert row["gains"][other]["value"] == pytest.approx(np.mean(values[row["best"]] - values[other]))
    assert row["gains"][other]["value"] <= 0
    assert row["n"] == 4


def test_a_finished_comparison_runs_nothing_again(recipe: Path, finished: Values, ranks: Any):
    files = sorted((recipe.parent / "run").glob("cells/*/*"))
    before = {file: file.stat().st_mtime_ns for file in files}
    [again] = ranks(1)(compared, str(recipe), [], 0)
    assert again["trainings"] == 0
    assert {file: file.stat().st_mtime_ns for file in files} == before
    assert again["rankings"] == finished["rankings"]


def test_a_killed_comparison_goes_on(recipe: Path, finished: Values, ranks: Any, tmp_path: Path):
    overrides = [f"run_dir={tmp_path}/run", f"data.store={recipe.parent}/run/data"]
    assert ranks(1, timeout=100)(compared, str(recipe), overrides, 1) == [None]
    kept = {file: file.stat().st_mtime_ns for file in tmp_path.glob("run/cells/*/result.json")}
    assert len(kept) == 3
    [report] = ranks(1, timeout=100)(compared, str(recipe), overrides)
    assert report["trainings"] == 3
    assert all(file.stat().st_mtime_ns == then for file, then in kept.items())
    assert report["rankings"] == finished["rankings"]


def test_a_change_runs_only_the_cells_it_changes(recipe: Path, finished: Values, ranks: Any, tmp_path: Path):
    shutil.copytree(recipe.parent / "run", tmp_path / "run")
    overrides = [f"run_dir={tmp_path}/run", "compare.schemes[0]={kind: linear, trained: false}"]
    [report] = ranks(1)(compared, str(recipe), overrides, 0)
    assert report["trainings"] == 0
    [scheme] = [one for one in report["schemes"] if one["scheme"] == "linear"]
    assert scheme["learning_rate"] is None
    assert results(tmp_path / "run").keys() == results(recipe.parent / "run").keys()
    changed = [*overrides, "eval.tasks.loss.documents=5", "compare.trained=false"]
    [report] = ranks(1)(compared, str(recipe), changed, 0)
    assert {row["n"] for row in report["rankings"] if row["task"] == "loss"} == {5}


def test_two_ranks_find_what_one_does(recipe: Path, finished: Values, ranks: Any, tmp_path: Path):
    overrides = [
        f"run_dir={tmp_path}/run",
        f"data.store={recipe.parent}/run/data",
        "compare.learning_rates=[1e-2]",
    ]
    reports = ranks(2, timeout=100)(compared, str(recipe), overrides)
    assert reports[0] == reports[1]
    one, two = (
        [value["value"] for row in report["rankings"] for value in row["values"].values()]
        for report in (finished, reports[0])
    )
    assert two == pytest.approx(one, abs=1e-4)


def test_seeds_are_other_data_for_every_scheme(recipe: Path, finished: Values, ranks: Any, tmp_path: Path):
    shutil.copytree(recipe.parent / "run", tmp_path / "run")
    [report] = ranks(1, timeout=100)(compared, str(recipe), [f"run_dir={tmp_path}/run", "compare.seeds=2"])
    assert report["trainings"] == 2  # the first seed and both learning rates were there
    first, second = report["plans"]["4"]
    assert [first] == finished["plans"]["4"]
    assert first != second
    trained = [row for row in report["rankings"] if row["mode"] == "trained"]
    assert {len(gain["by_seed"]) for row in trained for gain in row["gains"].values()} == {2}
    assert any("2 seeds" in note for note in report["notes"])


def test_a_scheme_without_words_in_a_config_is_trained_too(
    recipe: Path, finished: Values, ranks: Any, tmp_path: Path
):
    """Two thetas for two kv heads: no config can say it, and a checkpoint is written all the same."""
    schemes = "compare.schemes=[{kind: yarn}, {kind: harpe, bases: [1e5, 2e5]}, {kind: dca}, "
    schemes += "{kind: ntk, trained: false}, {kind: abf, trained: false}]"
    overrides = [f"run_dir={tmp_path}/run", f"data.store={recipe.parent}/run/data", schemes]
    [report] = ranks(1, timeout=100)(compared, str(recipe), [*overrides, "compare.learning_rates=[1e-2]"])
    told = {one["scheme"]: one for one in report["schemes"]}
    harpe = told["harpe bases=[100000.0, 200000.0]"]
    assert "as published" in harpe["settings"]["4"]["text"]
    assert harpe["trained"]
    assert not told["dca"]["trained"]
    assert "reach" in told["dca"]["settings"]["4"]["text"]
    assert told["abf"]["settings"]["4"]["text"] == "as ntk"
    assert all("abf" not in row["values"] for row in report["rankings"])
    assert "as ntk" in (tmp_path / "run" / "report.html").read_text()


def test_too_few_selection_documents_are_refused_before_the_first_cell(recipe: Path, finished: Values):
    told = read_comparison(str(recipe))
    run = ComparisonRun(told, {}, Mesh.alone(), Console(quiet=True))
    run.plans = {key: open_plan(plan_folder(stage)) for key, stage in told.plans().items()}
    run.check()
    run.selection = run.selection[:1]
    with pytest.raises(RecipeError, match="hold out more"):
        run.check()
