"""Reports: the numbers agree with the evaluations, reach every file, and any stored one is drawn again."""

import json
import re
import struct
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from world.evaluations import evaluation_of

from ropewalk.eval import Evaluation, make_task, paired_difference
from ropewalk.eval.report import figures
from ropewalk.eval.report.record import build_report
from ropewalk.eval.report.wording import ranking_sentence, sentences, summary_rows
from ropewalk.eval.report.write import read_report, write_comparison, write_report
from ropewalk.eval.result import cell_of
from ropewalk.eval.run import evaluate
from ropewalk.eval.tasks.position_loss import PositionLoss

DOCUMENTS = [f"d{i}" for i in range(12)]
NOISE = np.random.default_rng(0).normal(0, 0.2, 12)
RECORDS = Path(__file__).parents[3] / "docs" / "results"


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
    return evaluation_of(name, results, scheme="yarn" if sliding is None else "default")


@pytest.fixture(scope="module")
def evaluations() -> dict[str, Evaluation]:
    return {
        "base": made_up("base", loss=[3.0, 5.0], whole=5.5, sliding=2.9, found=[20, 0]),
        "base + <yarn>": made_up("base + <yarn>", loss=[3.0, 2.8], whole=2.9, sliding=None, found=[19, 3]),
        "extended": made_up("extended", loss=[3.1, 2.5], whole=2.4, sliding=None, found=[20, 19]),
    }


@pytest.fixture(scope="module")
def report(evaluations):
    return build_report(evaluations, title="A & B", command="torchrun recipes/extend.py x", date="2026-01-02")


@pytest.fixture(scope="module")
def written(report, tmp_path_factory):
    """The files of that report, in a folder that was not there."""
    return write_report(report, tmp_path_factory.mktemp("run") / "new" / "run")


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


def test_gains_are_paired_with_the_reference(evaluations, report):
    gains = {(g["model"], g["task"], g["length"]): g for g in report["gains"]}
    base, extended = (evaluations[m].results["position_loss"].cells[1] for m in ("base", "extended"))
    expected = paired_difference(base.values, extended.values, weights=base.weights)
    found = gains["extended", "position_loss", 256]
    assert (found["value"], found["low"], found["high"]) == (expected.estimate, expected.low, expected.high)
    assert gains["extended", "needles", 256]["value"] == pytest.approx(0.95)
    assert gains["extended", "context_gain", 256]["value"] == pytest.approx(2.9 - 2.4)
    assert gains["base", "context_gain", 256]["value"] == pytest.approx(2.9 - 5.5)
    assert ("base", "position_loss", 256) not in gains


def test_the_summary_splits_at_the_trained_length(report):
    rows = report["summary"]
    spans = [(r["task"], r["part"], r["start"], r["stop"]) for r in rows]
    assert spans == [
        ("position_loss", "", 0, 64),
        ("position_loss", "", 64, 256),
        ("context_gain", "whole context", 128, 256),
        ("context_gain", "sliding window", 128, 256),
        ("needles", "", 0, 64),
        ("needles", "", 0, 256),
    ]


def test_the_summary_is_said_in_a_table_and_in_words(report):
    table = list(summary_rows(report))
    assert table[0] == ["", "base", "base + <yarn>", "extended"]
    assert all(len(row) == 4 for row in table)
    by_name = {row[0]: row for row in table}
    assert by_name["needles found, prompts of 256 tokens"][1].startswith("0 % [0, ")
    said = sentences(report)
    assert any("base + <yarn> 3.0" in s and "not distinguishable" in s for s in said)
    assert any("extended 95 %, 95 pp better" in s for s in said)
    assert any("0.500 nats better" in s and "base with its sliding window" in s for s in said)
    assert any("extended 3.1" in s and "0.100 nats worse" in s for s in said)


def test_every_file_is_there_with_the_numbers(report, written):
    folder = written[0].parent
    assert sorted(folder.iterdir()) == sorted(written)
    assert written[-1].name == "report.html"
    assert read_report(folder / "report.json") == json.loads(json.dumps(report))
    html = (folder / "report.html").read_text()
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


def test_pictures_are_pngs_wide_enough_to_print(written):
    pictures = [path.read_bytes() for path in written if path.suffix == ".png"]
    assert len(pictures) == 3
    for data in pictures:
        assert data.startswith(b"\x89PNG")
        assert struct.unpack(">I", data[16:20])[0] >= 1600


def test_a_stored_report_draws_the_same_page(written, tmp_path):
    again = write_report(read_report(written[0].with_name("report.json")), tmp_path)
    for path, before in zip(again, written, strict=True):
        assert path.read_bytes() == before.read_bytes(), path.name


def test_a_run_recorded_before_tasks_had_words_is_drawn_again(tmp_path, monkeypatch):
    monkeypatch.setattr(figures, "DPI", 20)
    old = read_report(RECORDS / "tiny-512-4k-yarn.json")
    assert {path.stem for path in write_report(old, tmp_path)} == {*old["tasks"], "report"}
    said = " ".join(sentences(old))
    for words in ("loss, positions 512-4096 (16 documents", "(60 needles", "16 documents, against base with"):
        assert words in said


def test_a_comparison_recorded_before_tasks_had_words_is_drawn_again(tmp_path, monkeypatch):
    monkeypatch.setattr(figures, "DPI", 20)
    old = read_report(RECORDS / "compare-tiny.json")
    said = {ranking_sentence(row).partition(": best")[0] for row in old["rankings"]}
    assert {
        "needles found, prompts of 4096 tokens (20 needles)",
        "loss, positions 0-512 (16 documents)",
    } <= said
    old["rankings"] = [row for row in old["rankings"] if row["task"] == "needles"]
    files = write_comparison(old, tmp_path)
    assert [path.name for path in files] == ["needles-beyond.png", "report.json", "report.html"]


def test_evaluations_come_back_from_a_report(report):
    stored = json.loads(json.dumps(report))["evaluations"]
    told = {name: report[name] for name in ("title", "command", "date")}
    assert build_report({name: Evaluation.from_json(e) for name, e in stored.items()}, **told) == report


def test_one_model_alone_makes_a_report(make_subject, documents, tmp_path, monkeypatch):
    monkeypatch.setattr(figures, "DPI", 20)
    tasks = {"grid": make_task("needles", lengths=(64,), depths=(0.5,))}
    report = build_report(evaluate(make_subject(), tasks, documents=documents, corpus="c"))
    assert [p.name for p in write_report(report, tmp_path)][-1] == "report.html"
    assert report["gains"] == []
    assert next(iter(summary_rows(report))) == ["", "base"]
