"""The verb `prepare`: tasks, merging, going on, checking and peeking, and what a dry run says beforehand."""

import gzip
import json
import os
import random
import signal
import struct
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import yaml
from world.command_line import Ended

from ropewalk.data import buckets, load_encoder, open_plan
from ropewalk.data.corpus import work
from ropewalk.recipes.jobs import preparation

Run = Callable[..., Ended]
RunJson = Callable[..., Any]
WORDS = ("the", "rope", "is", "laid", "along", "a", "walk", "of", "many", "yards", "strand", "by")
CUT = ("data.part_bytes=9000", "--workers", 1)
"""Some ten units, done in this process."""


def lines(count: int, seed: int) -> bytes:
    """Write documents of about 120 words, few of them long, as JSON lines with a field that is not read."""
    draw = random.Random(seed)
    rows = []
    for number in range(count):
        text = "".join(
            f"{' '.join(draw.choices(WORDS, k=12))}\n" for _ in range(1 + int(draw.expovariate(0.1)))
        )
        rows.append(json.dumps({"text": text, "id": f"{seed}-{number}", "more": "x" * 40}) + "\n")
    return "".join(rows).encode()


def over_lines(recipe: Path, count: int, *, tokens: int, **sources: Any) -> Path:
    """Write another recipe beside one: over two sources of JSON lines, plain and packed."""
    (recipe.parent / "plain.jsonl").write_bytes(lines(count, 1))
    (recipe.parent / "packed.jsonl.gz").write_bytes(gzip.compress(lines(count, 2)))
    values = yaml.safe_load(recipe.read_text())
    kind = {"kind": "jsonl", "id": "id"}
    values["data"]["sources"] = {
        "packed": kind | {"paths": [str(recipe.parent / "packed.jsonl.gz")], "weight": 0.4},
        "plain": kind | {"paths": [str(recipe.parent / "plain.jsonl")], "weight": 0.6},
    }
    for name, own in sources.items():
        values["data"]["sources"].setdefault(name, {}).update(own)
    values["train"]["steps"] = -(-tokens // 512)
    file = recipe.parent / "lines.yaml"
    file.write_text(yaml.safe_dump(values))
    return file


def staged(recipe: Path, stages: list[dict[str, Any]]) -> None:
    """Give a recipe stages, each with a target length."""
    values = yaml.safe_load(recipe.read_text())
    del values["target_length"]
    recipe.write_text(yaml.safe_dump(values | {"stages": stages}))


def test_tasks_in_any_order_make_the_same_store(
    run: Run, run_json: RunJson, recipe_file: Path, tmp_path: Path
):
    alone = run_json("prepare", recipe_file, *CUT)
    shared = ("prepare", recipe_file, *CUT, f"run_dir={tmp_path / 'shared'}")
    told = [run_json(*shared, "--tasks", task) for task in ("3/3", "1/3", "2/3")]
    assert [done["task"] for done in told] == ["3/3", "1/3", "2/3"]
    assert told[0]["units"] < told[1]["units"] < told[2]["units"] == told[2]["of"] > 5
    for _ in range(2):  # merged again: as where it was killed before the mix
        merged = run_json(*shared, "--merge")
        assert merged["fingerprint"] == alone["fingerprint"]
        assert merged["corpus_fingerprint"] == alone["corpus_fingerprint"]
    assert "merged already" in run(*shared, "--tasks", "1/3").stdout


def test_a_missing_task_is_named_and_plain_prepare_does_only_that(
    run: Run, run_json: RunJson, recipe_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    for task in ("1/3", "3/3"):
        assert run("prepare", recipe_file, *CUT, "--tasks", task).exit_code == 0
    result = run("prepare", recipe_file, *CUT, "--merge")
    assert result.exit_code == 2
    assert all(word in result.stderr for word in ("unit 1 of data.sources.text", "run the tasks", ".txt"))
    assert {path.name.partition("-")[0] for path in (tmp_path / "run/data").iterdir()} == {"unfinished"}

    done: list[int] = []

    def counted(job: Any, *given: Any) -> None:
        done.append(job.number)
        tokenise_unit(job, *given)

    tokenise_unit = work.tokenise_unit
    monkeypatch.setattr(work, "tokenise_unit", counted)
    report = run_json("prepare", recipe_file, *CUT)
    assert done == list(range(1, 3 * len(done), 3))
    monkeypatch.undo()
    elsewhere = run_json("prepare", recipe_file, *CUT, f"run_dir={tmp_path / 'other'}")
    assert elsewhere["fingerprint"] == report["fingerprint"]


KILLED = """
import os, signal, sys
left = [5]
def kill(event, given):
    if event == "os.rename" and str(given[1]).endswith(".json"):
        left[0] -= 1
        if not left[0]:
            os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(kill)
from ropewalk.recipes.cli import main
main()
"""
"""Killed as the fifth JSON file gets its name: the first says whose the work is, the others are records."""


def test_a_killed_prepare_goes_on_inside_a_packed_file(run_json: RunJson, recipe_file: Path, tmp_path: Path):
    recipe = over_lines(recipe_file, 60, tokens=2000)
    command = ("prepare", recipe, "data.part_bytes=3000", "--workers", "1")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    killed = [sys.executable, "-c", KILLED, *map(str, command)]
    assert subprocess.run(killed, env=environment, check=False).returncode == -signal.SIGKILL
    [store] = (tmp_path / "run/data").glob("unfinished-*")
    done = [path.with_suffix(".arrow") for path in store.glob("parts/*-*.json")]
    before = {path: path.stat().st_mtime_ns for path in done}
    assert len(before) == 3 < len(list(store.glob("parts/*.arrow")))
    parts = tmp_path / "run/data/corpus/parts"
    report = run_json(*command)
    names = sorted(path.name for path in parts.iterdir())
    assert sorted(path.name for path in before) == names[: len(before)]
    last = names[len(before) - 1].partition("-")[0]
    assert names[len(before)].startswith(last)  # killed with more of the packed file to come
    assert all((parts / path.name).stat().st_mtime_ns == then for path, then in before.items())
    other = run_json(*command, f"run_dir={tmp_path / 'other'}")
    assert other["fingerprint"] == report["fingerprint"]


def test_check_names_the_file_of_a_changed_byte(
    run: Run, run_json: RunJson, recipe_file: Path, tmp_path: Path
):
    assert "run prepare" in run("prepare", recipe_file, "--check").stderr
    report = run_json("prepare", recipe_file, *CUT)
    store = tmp_path / "run/data"
    files = [path for path in store.rglob("*") if path.is_file()]
    assert run_json("prepare", recipe_file, "--check") == {"files": len(files), "whole": True}
    draw = random.Random(0)
    for file in [*files, store / "corpus/parts/000000-0000.arrow", Path(report["folder"], "segments.npy")]:
        kept = file.read_bytes()
        spoiled = bytearray(kept)
        spoiled[draw.randrange(len(kept))] ^= 1 << draw.randrange(8)
        file.write_bytes(spoiled)
        result = run("prepare", recipe_file, "--check")
        assert (result.exit_code, result.exception) == (2, None)
        assert str(file.relative_to(tmp_path)) in result.stderr
        file.write_bytes(kept)
    Path(report["folder"], "packs.npy").unlink()
    assert "packs.npy: must" in run("prepare", recipe_file, "--check").stderr


def test_peek_shows_how_documents_begin(run: Run, run_json: RunJson, recipe_file: Path, made: Path):
    assert "run prepare" in run("prepare", recipe_file, "--peek", 1).stderr
    report = run_json("prepare", recipe_file)
    plan, encoder = open_plan(report["folder"]), load_encoder(made / "model", engine="tokenizers")
    told = run_json("prepare", recipe_file, "--peek", 99)
    assert [pack["pack"] for pack in told] == list(range(report["packs"]))
    assert sum(pack["tokens"] for pack in told) == report["tokens"]
    assert sum(pack["trained"] for pack in told) == report["trained_tokens"]
    for pack in told:
        assert [tuple(span) for span in pack["groups"]] == plan[pack["pack"]].groups
        for segment in pack["segments"]:
            text = (made / segment["id"]).read_text()
            [tokens] = encoder.encode([text])
            before = encoder.decode(tokens[: segment["start"]])
            begins = segment["begins"].removesuffix(encoder.decode([encoder.padding]))
            assert text.startswith(before + begins)
            assert len(begins) > 40 or segment["tokens"] < 48
    assert any(segment["start"] == 0 for pack in told for segment in pack["segments"])
    shown = run("prepare", recipe_file, "--peek", 2).stdout
    assert all(repr(segment["begins"])[:30] in shown for pack in told[:2] for segment in pack["segments"])
    assert "pack 2" not in shown


def test_the_promised_keys(run_json: RunJson, recipe_file: Path):
    promised = {"tokens", "packs", "sources", "dropped", "fingerprint"}
    report = run_json("prepare", recipe_file)
    assert promised <= report.keys()
    assert report["sources"]["text"]["requested"] == {"share": 1.0, "tokens": 2048}
    assert report["sources"]["text"]["achieved"].items() >= {"share": 1.0, "tokens": 2048}.items()
    assert report["dropped"]["not_selected"].keys() == {"documents", "tokens"}
    assert promised - {"fingerprint"} <= run_json("prepare", recipe_file, "--dry-run").keys()


def test_a_dry_run_without_the_text_says_so(run: Run, run_json: RunJson, recipe_file: Path, tmp_path: Path):
    gone = ("prepare", recipe_file, f"data.sources.text.paths=[{tmp_path / 'gone'}]", "--dry-run")
    result = run(*gone, "--draw", tmp_path / "mix.png")
    assert result.exit_code == 0, result.output
    assert "no preview of the data" in result.stdout
    assert str(tmp_path / "gone") in result.stdout.replace("\n", "")
    assert run_json(*gone).keys() == {"missing", "stages"}
    assert not (tmp_path / "mix.png").exists()


MIX = {
    "plain": {"weight": 0.35, "long": {"at_least": 200, "share": 0.7}, "max_tokens": 1200},
    "packed": {"weight": 0.2, "max_tokens": 300, "positions": "skip"},
    "pool": {"kind": "pool", "of": "packed", "weight": 0.1, "min_tokens": 301, "document_length": 128},
    "facts": {"kind": "facts", "text": "plain", "weight": 0.2, "facts": 1, "length": 256},
    "repeats": {"kind": "repeats", "text": "packed", "weight": 0.15},
}


def test_where_all_is_read_a_dry_run_tells_what_is_then_made(run: Run, run_json: RunJson, recipe_file: Path):
    recipe = over_lines(recipe_file, 200, tokens=12_000, **MIX)
    stages = [{"target_length": 256}, {"target_length": 512, "data": {"length": 128}}]
    staged(recipe, stages)
    told = run_json("prepare", recipe, "--dry-run")["stages"]
    reports = run_json("prepare", recipe)["stages"]
    assert [stage["length"] for stage in told] == [256, 128]
    for stage, report in zip(told, reports, strict=True):
        assert stage["scale"] == 1
        for key in ("tokens", "packs", "coverage", "dropped"):
            assert stage[key] == report[key], key
        for name, own in report["sources"].items():
            assert stage["sources"][name] == {key: own[key] for key in ("requested", "achieved")}
        assert stage["buckets"] == [asdict(bucket) for bucket in buckets(open_plan(report["folder"]))]
        assert sum(own["tokens"] for own in stage["there"].values()) == report["corpus"]["train"]["tokens"]
        corpus, plan = recipe.parent / "run/data/corpus", Path(report["folder"])
        sizes = [path.stat().st_size for path in [*corpus.rglob("*"), *plan.iterdir()] if path.is_file()]
        assert stage["disk_bytes"] == pytest.approx(sum(sizes), rel=0.08)
        assert stage["padding_share"] == report["padding"] / (report["packs"] * report["length"])
    shown = run("prepare", recipe, "--dry-run").stdout
    assert all(word in shown for word in ("stage 1", "query-key pairs a token", "GB on disk", "hours on"))


def test_a_dry_run_estimates_from_a_part(
    run_json: RunJson, recipe_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Of each source's 2.3 MB of text 0.2 are read, some 260 documents: chance is some 6 %."""
    recipe = over_lines(recipe_file, 3000, tokens=120_000, **MIX)
    monkeypatch.setattr("ropewalk.data.sampling.SAMPLE", 400_000)
    monkeypatch.setattr("ropewalk.data.sampling.LEAST", 0)
    told, report = run_json("prepare", recipe, "--dry-run"), run_json("prepare", recipe, "--workers", 1)
    assert 300_000 < told["sample_bytes"] < 500_000
    assert all(0.05 < told["there"][name]["share"] < 0.2 for name in ("plain", "packed"))
    assert sum(own["tokens"] for own in told["there"].values()) == pytest.approx(
        report["corpus"]["train"]["tokens"], rel=0.1
    )
    for key in ("tokens", "packs"):
        assert told[key] == pytest.approx(report[key], rel=0.05)
    for name, own in report["sources"].items():
        for side in ("requested", "achieved"):
            for key in own[side].keys() & {"share", "tokens", "long_share"}:
                assert told["sources"][name][side][key] == pytest.approx(own[side][key], rel=0.02)
    for ours, theirs in zip(told["coverage"], report["coverage"], strict=True):
        assert ours["pairs"] == pytest.approx(theirs["pairs"], rel=0.1)
    assert told["dropped"].keys() - {"residual"} == report["dropped"].keys()
    for reason in ("not_selected", "min_tokens", "max_tokens", "remainder"):
        assert told["dropped"][reason]["tokens"] == pytest.approx(
            report["dropped"][reason]["tokens"], rel=0.2
        )
    real = sum(path.stat().st_size for path in (tmp_path / "run/data").rglob("*") if path.is_file())
    assert told["disk_bytes"] == pytest.approx(real, rel=0.2)


def test_what_is_infeasible_is_said_to_be_of_a_sample(
    run: Run, recipe_file: Path, monkeypatch: pytest.MonkeyPatch
):
    recipe = over_lines(recipe_file, 400, tokens=80_000, plain={"weight": 0.1}, packed={"weight": 0.9})
    whole = run("prepare", recipe, "--dry-run")
    assert (whole.exit_code, "estimated" in whole.stderr) == (2, False)
    monkeypatch.setattr("ropewalk.data.sampling.SAMPLE", 60_000)
    monkeypatch.setattr("ropewalk.data.sampling.LEAST", 0)
    part = run("prepare", recipe, "--dry-run", "--json")
    assert part.exit_code == 2
    for said in (whole.stderr, part.stderr):
        assert all(word in said for word in ("data.sources.packed: its", "reachable", "set repeat"))
    assert "estimated from 1/" in part.stderr
    assert "documents that may be drawn: data.sources.packed" in part.stderr
    assert "estimated: data.tokens" in part.stderr
    stated = (said.partition("as it stands is ")[2].replace(",", "") for said in (whole.stderr, part.stderr))
    most, estimate = map(int, stated)
    assert estimate == pytest.approx(most, rel=0.3)
    monkeypatch.undo()
    for steps, code in ((most // 512, 0), (most // 512 + 1, 2)):
        assert run("prepare", recipe, "--dry-run", f"train.steps={steps}").exit_code == code


def test_pictures_one_a_stage(run: Run, recipe_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    stages = [{"target_length": 128}, {"target_length": 256}]
    staged(recipe_file, stages)
    read, sampled = [], preparation.sampled
    monkeypatch.setattr(preparation, "sampled", lambda *given: read.append(1) or sampled(*given))
    result = run("prepare", recipe_file, "--dry-run", "--draw", tmp_path / "mix.png")
    assert result.exit_code == 0, result.output
    assert len(read) == 1  # stages that read the same share a sample
    assert {path.name for path in tmp_path.glob("*.png")} == {"mix-0.png", "mix-1.png"}
    for file in tmp_path.glob("*.png"):
        content = file.read_bytes()
        assert content.startswith(b"\x89PNG\r\n\x1a\n")
        assert min(struct.unpack(">II", content[16:24])) > 1000
        assert len(content) > 20_000


BAD = [
    (["--dry-run", "--merge"], "--dry-run and --merge", "leave out one"),
    (["--tasks", "1/2", "--check"], "--tasks and --check", "leave out one"),
    (["--peek", 1, "--merge"], "--merge and --peek", "leave out one"),
    (["--peek", 1, "--workers", 2], "got 2", "leave it out"),
    (["--draw", "mix.png"], "mix.png alone", "add --dry-run"),
    (["--draw", "mix.jpg", "--dry-run"], "mix.jpg", "mix.png"),
    (["--draw", "gone/mix.png", "--dry-run"], "gone/mix.png", "exists"),
    (["--world", 2], "2 alone", "--dry-run"),
    (["--tasks", "4/3"], "4/3", "1/16"),
    (["--tasks", "0/3"], "0/3", "1/16"),
    (["--tasks", "3"], "got 3", "1/16"),
    (["--tasks", ""], "i/n", "1/16"),
    (["--peek", 0], "--peek", "1"),
    (["--dry-run", "--json", "data.tokens=9"], "got 9", "leave it out"),
    (["--dry-run", "data.closes=end"], "'end'", "text:end"),
]


@pytest.mark.parametrize(("options", "value", "cure"), BAD, ids=lambda part: str(part)[:40])
def test_bad_options(run: Run, recipe_file: Path, tmp_path: Path, options: list[Any], value: str, cure: str):
    result = run("prepare", recipe_file, *options)
    assert result.exit_code == 2, result.output
    assert value in result.stderr
    assert cure in result.stderr
    assert not (tmp_path / "run").exists()
