"""Reports: the numbers agree with the evaluations, reach every file, and refuse what cannot be compared."""

import json
import re
import struct
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

from ropewalk.eval import EvalError, make_task, paired_difference
from ropewalk.eval.report.compare import build_report
from ropewalk.eval.report.report import read_report, write_report
from ropewalk.eval.report.wording import sentences, summary_rows
from ropewalk.eval.run import Evaluation, evaluate
from ropewalk.eval.task import cell_of
from ropewalk.eval.tasks.position_loss import PositionLoss

DOCUMENTS = [f"d{i}" for i in range(12)]
NOISE = np.random.default_rng(0).normal(0, 0.2, 12)


def made_up(
    name: str, *, loss: list[float], whole: float, sliding: float | None, found: list[int]
) -> Evaluation:
    """Make an evaluation with given losses by bucket, gain losses and needles found of 20."""
    task = PositionLoss(length=256, documents=12, edges=(64,))
    curve = [
        cell_of(DOCUMENTS, value + NOISE, [63 if start == 0 else 192] * 12, start=start, length=stop)
        for (start, stop), value in zip(task.buckets(), loss, strict=True)
    ]
    gain = make_task("context_gain", start=128, stop=256, window=64, stride=16, documents=12)
    place = {"start": 128, "length": 256, "against": "sliding window"}
    parts = {"whole context": whole} | ({} if sliding is None else {"sliding window": sliding})
    gains = [cell_of(DOCUMENTS, v + NOISE, [128] * 12, part=part, **place) for part, v in parts.items()]
    grid = make_task("needles", lengths=(64, 256), depths=(0.5,), per_cell=20)
    needles = [
        cell_of([f"{n}/{i}" for i in range(20)], np.arange(20) < hits, np.ones(20), length=n, depth=0.5)
        for n, hits in zip((64, 256), found, strict=True)
    ]
    rows = [np.arange(9)]
    frame = {"statement": "# <key> is 1.\n", "question": "# <key> is", "answer": " 1"}
    results = {
        "position_loss": task.result(curve, rows),
        "context_gain": gain.result(gains, rows),
        "needles": grid.result(needles, rows, frame=frame),
    }
    return Evaluation(
        model=name,
        fingerprint="f" * 64,
        parameters=1234,
        scheme="yarn" if sliding is None else "default",
        knobs={},
        scheme_fingerprint="e" * 64,
        original_length=64,
        trained_length=64,
        target_length=256,
        corpus="c0ffee" * 8,
        reference="base",
        seed=0,
        seconds=1.5,
        results=results,
    )


@pytest.fixture
def evaluations() -> dict[str, Evaluation]:
    return {
        "base": made_up("base", loss=[3.0, 5.0], whole=5.5, sliding=2.9, found=[20, 0]),
        "base + <yarn>": made_up("base + <yarn>", loss=[3.0, 2.8], whole=2.9, sliding=None, found=[19, 3]),
        "extended": made_up("extended", loss=[3.1, 2.5], whole=2.4, sliding=None, found=[20, 19]),
    }


class Outline(HTMLParser):
    """Collect what a page links to and its text."""

    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.links += [value or "" for name, value in attrs if name in ("src", "href")]

    def handle_data(self, data: str) -> None:
        self.text += data


def test_gains_are_paired_with_the_reference(evaluations):
    gains = {(g["model"], g["task"], g["length"]): g for g in build_report(evaluations)["gains"]}
    base, extended = (evaluations[m].results["position_loss"].cells[1] for m in ("base", "extended"))
    expected = paired_difference(base.values, extended.values, weights=base.weights)
    found = gains["extended", "position_loss", 256]
    assert (found["value"], found["low"], found["high"]) == (expected.estimate, expected.low, expected.high)
    assert gains["extended", "needles", 256]["value"] == pytest.approx(0.95)
    assert gains["extended", "context_gain", 256]["value"] == pytest.approx(2.9 - 2.4)
    assert gains["base", "context_gain", 256]["value"] == pytest.approx(2.9 - 5.5)
    assert ("base", "position_loss", 256) not in gains


def test_the_summary_splits_at_the_trained_length(evaluations):
    rows = build_report(evaluations)["summary"]
    spans = [(r["task"], r["part"], r["start"], r["stop"]) for r in rows]
    assert spans == [
        ("position_loss", "", 0, 64),
        ("position_loss", "", 64, 256),
        ("context_gain", "whole context", 128, 256),
        ("context_gain", "sliding window", 128, 256),
        ("needles", "", 0, 64),
        ("needles", "", 0, 256),
    ]


def test_the_summary_is_said_in_a_table_and_in_words(evaluations):
    report = build_report(evaluations)
    table = summary_rows(report)
    assert table[0] == ["", "base", "base + <yarn>", "extended"]
    assert all(len(row) == 4 for row in table)
    by_name = {row[0]: row for row in table}
    assert by_name["needles found, prompts of 256 tokens"][1].startswith("0 % [0, ")
    said = sentences(report)
    assert any("base + <yarn> 3.0" in s and "not distinguishable" in s for s in said)
    assert any("extended 95 %, 95 pp better" in s for s in said)
    assert any("0.500 nats better" in s and "base with its sliding window" in s for s in said)
    assert any("extended 3.1" in s and "0.100 nats worse" in s for s in said)


def test_every_file_is_there_with_the_numbers(evaluations, tmp_path):
    report = build_report(
        evaluations, title="A & B", command="torchrun recipes/extend.py x", date="2026-01-02"
    )
    files = write_report(report, tmp_path / "new" / "run")
    assert sorted(f.name for f in (tmp_path / "new" / "run").iterdir()) == sorted(f.name for f in files)
    assert read_report(tmp_path / "new" / "run" / "report.json") == json.loads(json.dumps(report))
    html = (tmp_path / "new" / "run" / "report.html").read_text()
    seen = Outline()
    seen.feed(html)
    assert all(link.startswith("data:image/png;base64,") for link in seen.links)
    assert len(seen.links) == 3
    assert not re.search(r"https?://|@import|<script", html)
    for row in summary_rows(report):
        assert all(cell.strip() in seen.text for cell in row if cell != "-"), row
    for words in (
        "A & B",
        "c0ffee" * 8,
        "torchrun recipes/extend.py x",
        "2026-01-02",
        "# <key> is 1.",
        "f" * 12,
    ):
        assert words in seen.text
    assert all(task["protocol"] in seen.text for task in report["tasks"].values())


def test_pictures_are_pngs_wide_enough_to_print(evaluations, tmp_path):
    write_report(build_report(evaluations), tmp_path)
    for picture in tmp_path.glob("*.png"):
        data = picture.read_bytes()
        assert data.startswith(b"\x89PNG")
        assert struct.unpack(">I", data[16:20])[0] >= 1600


def test_a_stored_report_draws_the_same_page(evaluations, tmp_path):
    write_report(build_report(evaluations), tmp_path)
    again = write_report(read_report(tmp_path / "report.json"), tmp_path / "again")
    for path in again:
        assert path.read_bytes() == (tmp_path / path.name).read_bytes(), path.name


def test_evaluations_come_back_from_a_report(evaluations, tmp_path):
    report = build_report(evaluations, date="today")
    stored = json.loads(json.dumps(report))["evaluations"]
    again = build_report({name: Evaluation.from_json(e) for name, e in stored.items()}, date="today")
    assert again == report


def test_one_model_alone_makes_a_report(make_subject, documents, tmp_path):
    tasks = {
        "curve": make_task("position_loss", length=100, documents=3),
        "grid": make_task("needles", lengths=(64,)),
    }
    report = build_report(evaluate(make_subject(), tasks, documents=documents, corpus="c"))
    assert [p.name for p in write_report(report, tmp_path)][-1] == "report.html"
    assert report["gains"] == []
    assert summary_rows(report)[0] == ["", "base"]


def test_a_failed_write_leaves_the_old_file_and_nothing_else(evaluations, tmp_path):
    (tmp_path / "report.json").mkdir()
    (tmp_path / "report.json" / "kept").touch()
    with pytest.raises(EvalError, match=r"report.json: must be writable.*run_dir"):
        write_report(build_report(evaluations), tmp_path)
    assert (tmp_path / "report.json" / "kept").exists()
    assert not list(tmp_path.glob(".*"))
    assert not (tmp_path / "report.html").exists()


def test_bad_input(evaluations, tmp_path):
    base, other = evaluations["base"], evaluations["extended"]
    moved = replace(other.results["needles"], items_fingerprint="0" * 64)
    shorter = replace(other.results["needles"], settings={"per_cell": 1})
    table = [
        ({}, ["report", "none", "evaluate a model"]),
        ({"extended": other}, ["report", "'base'", "extended", "add it"]),
        ({"base": base, "x": replace(other, corpus="d")}, ["report.x.corpus", "'d'", "same tasks"]),
        ({"base": base, "x": replace(other, seed=3)}, ["report.x.seed", "3", "seed"]),
        ({"base": base, "x": replace(other, results={})}, ["report.x.tasks", "[]", "same tasks"]),
        (
            {"base": base, "x": replace(other, results=other.results | {"needles": moved})},
            ["needles.items", "0000"],
        ),
        (
            {"base": base, "x": replace(other, results=other.results | {"needles": shorter})},
            ["needles.settings", "1"],
        ),
    ]
    for models, words in table:
        with pytest.raises(EvalError) as refused:
            build_report(models)
        assert all(word in str(refused.value) for word in words), refused.value
    (tmp_path / "report.json").write_text('{"format": 9}')
    with pytest.raises(EvalError, match="format must be 1, got 9"):
        read_report(tmp_path / "report.json")
