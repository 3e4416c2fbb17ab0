"""`rope search`: from a recipe to a factor file that a recipe names, by any rank, in any number of goes."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from world.command_line import Ended

from ropewalk.eval import paired_difference
from ropewalk.recipes.jobs.factor_search import Row, SearchResult, run_search
from ropewalk.recipes.jobs.search_plan import Search
from ropewalk.recipes.jobs.stores import store_folder
from ropewalk.recipes.language.compose import load
from ropewalk.recipes.language.schema import stages
from ropewalk.recipes.show.results import print_search
from ropewalk.rope import read_base, read_factors

Run = Callable[..., Ended]
RunJson = Callable[..., Any]
BRIEF = ("rope", "search")
FEW = ("--documents", 2, "--tokens", 128 * 150)


@pytest.fixture
def prepared(run: Run, recipe_file: Path) -> Path:
    assert run("prepare", recipe_file).exit_code == 0
    return recipe_file


def searched(recipe: Path, wanted: dict[str, Any]) -> dict[str, Any] | None:
    """Search on this world; what rank 0 found."""
    (stage,) = stages(load(recipe))
    found = run_search(stage, Search(**wanted), store=store_folder(stage))
    return json.loads(json.dumps(found))


WANTED = {"method": "longrope", "algorithm": "racing", "seed": 0, "documents": 2, "tokens": 128 * 150}


def test_a_search_ends_in_a_factor_file_that_a_recipe_names(prepared: Path, run_json: RunJson, made: Path):
    found = run_json(*BRIEF, prepared, *FEW)
    factors = read_factors(found["file"])
    (stage,) = stages(load(prepared, ["rope.kind=longrope", f"rope.factors={found['file']}"]))
    base = read_base(json.loads((made / "model" / "config.json").read_text()))["full_attention"]
    frequencies = stage.rope.scheme.frequencies(base, target_length=128)
    assert (base.unscaled() / frequencies.inv_freq[0]).tolist() == pytest.approx(found["factors"])
    assert list(factors.long) == found["factors"]
    assert (factors.theta, factors.original_length, factors.target_length) == (1e4, 64, 128)
    told = factors.provenance
    assert len(told["model_fingerprint"]) == len(told["corpus_fingerprint"]) == 64
    assert (told["tokens"], told["seed"], told["algorithm"]) == (found["tokens"], 0, "racing")
    assert told["losses"].keys() == {"linear", "ntk", "yarn", "found"}


def test_the_found_vector_stands_beside_the_seeds(prepared: Path, run_json: RunJson):
    found = run_json(*BRIEF, prepared, *FEW)
    *seeds, own = found["rows"]
    assert [row["name"] for row in seeds] == ["linear", "ntk", "yarn"]
    for row in seeds:
        assert row["gain"]["estimate"] == pytest.approx(row["held_out"] - own["held_out"])
        assert row["gain"]["n"] == found["checked"] == 6
    assert found["tokens"] == 128 * found["forwards"] <= 128 * 150
    assert found["rounds"][-1] == [found["tokens"], own["searched"]]
    assert [loss for _, loss in found["rounds"]] == sorted(
        (loss for _, loss in found["rounds"]), reverse=True
    )


@pytest.mark.parametrize("method", ["longrope", "longrope2"])
def test_a_second_run_reads_what_the_first_paid_for(prepared: Path, run: Run, run_json: RunJson, method: str):
    less = ("--documents", 2, "--tokens", 128 * 80, "--method", method)
    first = run_json(*BRIEF, prepared, *less)
    journal = Path(first["file"]).with_name("journal.jsonl")
    paid = journal.read_text()
    assert run_json(*BRIEF, prepared, *less) == first
    assert journal.read_text() == paid
    more = run_json(*BRIEF, prepared, "--documents", 2, "--tokens", 128 * 150, "--method", method)
    assert more["forwards"] > first["forwards"]
    assert journal.read_text().startswith(paid)
    other = run(*BRIEF, prepared, *less, "train.seed=7")
    assert (other.exit_code, "documents_fingerprints" in other.stderr) == (2, True)


def test_two_ranks_write_the_journal_of_one(prepared: Path, tmp_path: Path, ranks):
    alone = searched(prepared, WANTED)
    folder = tmp_path / "run" / "search"
    journal = next(folder.glob("*/journal.jsonl")).read_text()
    folder.rename(tmp_path / "alone")
    both = ranks(2)(searched, prepared, WANTED)
    assert both == [alone, None]
    assert next(folder.glob("*/journal.jsonl")).read_text() == journal


def test_the_plan_says_what_is_read_at_most(prepared: Path, run: Run):
    result = run(*BRIEF, prepared, "--algorithm", "published", "--dry-run")
    assert result.exit_code == 0, result.output
    assert f"{(64 + 40 * 32) * 5 * 128:,}" in result.stdout
    assert "longrope-published-5-seed0" in "".join(result.stdout.split())  # a long path is folded


def found_with(held_out: list[float], capsys: pytest.CaptureFixture[str]) -> str:
    own = [1.0, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6, 1.7]
    gain = paired_difference(held_out, own)
    rows = (
        Row(name="yarn", searched=2.0, held_out=sum(held_out) / 8, gain=gain),
        Row(name="found", searched=1.0, held_out=sum(own) / 8, gain=None),
    )
    result = SearchResult(
        file=Path("f.json"),
        rows=rows,
        searched=5,
        checked=8,
        tokens=1000,
        forwards=10,
        factors=(1.0,),
        rounds=((1000, 1.0),),
    )
    print_search(result.json(), Console(width=120))
    return capsys.readouterr().out


def test_a_tie_is_called_a_tie_and_a_gain_has_its_price(capsys: pytest.CaptureFixture[str]):
    gained = found_with([1.5, 1.62, 1.7, 1.78, 1.9, 2.0, 2.1, 2.2], capsys)
    assert "0.5000 nats better than yarn" in gained
    assert "2,000 tokens a nat" in gained
    tie = found_with([1.5, 0.6, 1.7, 0.8, 1.9, 1.0, 2.1, 1.2], capsys)
    assert "A tie" in tie
    assert tie.count("not distinguishable") == 2
    assert "a nat" not in tie


@pytest.mark.parametrize(
    ("arguments", "value", "cure"),
    [
        (["--tokens", "100"], "100", "raise it"),
        (["target_length=64"], "64", "raise it"),
        (["--documents", "7"], "got 1", "hold out"),
        (["--algorithm", "genetic"], "genetic", "published"),
        (["--world", "2"], "2", "--dry-run"),
        (["--dry-run", "--world", "3", "eval.sequence=2"], "3", "one of"),
        (["model.path=gone"], "gone", "correct the path"),
    ],
)
def test_bad_input(prepared: Path, run: Run, arguments: list[str], value: str, cure: str):
    result = run(*BRIEF, prepared, *arguments)
    assert result.exit_code == 2, result.output
    for told in (value, cure):
        assert told in result.stderr
