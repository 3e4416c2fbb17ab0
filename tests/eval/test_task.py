"""Every task keeps the contract by being registered; a new one is one class, down to a report's words."""

import json
import math
import re
import subprocess
import sys
from dataclasses import dataclass, replace
from typing import Annotated, Any

import numpy as np
import pytest
from pydantic import Field, ValidationError

from ropewalk.eval import TASKS, Context, EvalError, Result, Subject, Task, Words, make_task, task
from ropewalk.eval.report import figures
from ropewalk.eval.report.ranking import rankings
from ropewalk.eval.report.record import build_report
from ropewalk.eval.report.wording import ranking_sentence, sentences, summary_rows
from ropewalk.eval.report.write import write_report
from ropewalk.eval.result import cell_of
from ropewalk.eval.run import evaluate

KINDS = sorted(TASKS.known)


def small(kind: str) -> Task:
    """Size a task for 256 tokens over a window of 128, with few items."""
    sized = TASKS.known[kind].sized(256, 128)
    few = {"documents": 3, "per_cell": 2, "stride": 32}
    return replace(sized, **{name: few[name] for name in few if hasattr(sized, name)})


@pytest.mark.parametrize("kind", KINDS)
class TestEveryTask:
    def test_says_what_it_measures(self, kind):
        made = make_task(kind)
        assert made.name == kind
        assert made.words.picture in (None, *figures.PICTURES)
        assert len(made.protocol()) > 80

    @pytest.mark.parametrize(("length", "window"), [(4096, 512), (512, 512), (1024, 4096)])
    def test_sizes_itself_to_any_window(self, kind, length, window):
        made = TASKS.known[kind].sized(length, window)
        assert (
            max(getattr(made, "length", 0), getattr(made, "stop", 0), *getattr(made, "lengths", (0,)))
            == length
        )

    def test_measures_finite_scores_that_survive_json(self, kind, make_subject, context):
        result = small(kind).run(make_subject(), context)
        again = Result.from_json(json.loads(json.dumps(result.json(), allow_nan=False)))
        assert result.scores() == again.scores()
        assert result.json() == again.json()
        assert result.scores()
        assert all(math.isfinite(s.value) and s.low <= s.value <= s.high for s in result.scores())

    def test_meets_every_model_with_the_same_items(self, kind, make_subject, make_context):
        one = small(kind).run(make_subject("base", seed=0), make_context())
        two = small(kind).run(make_subject("other", seed=1, scheme="linear", target=256), make_context())
        assert one.items_fingerprint == two.items_fingerprint
        assert {c.key: c.items for c in two.cells}.items() <= {c.key: c.items for c in one.cells}.items()
        other_seed = small(kind).run(make_subject(), make_context(seed=1))
        assert other_seed.items_fingerprint != one.items_fingerprint

    def test_reports_progress_to_the_end(self, kind, make_subject, make_context):
        seen: list[tuple[str, int, int]] = []
        small(kind).run(make_subject(), make_context(progress=lambda *step: seen.append(step)))
        assert seen[-1][1] == seen[-1][2] > 0
        assert all(what.startswith("base: ") for what, _, _ in seen)

    def test_counts_the_tokens_it_scores(self, kind, make_subject, context):
        scored = 0

        def score_rows(rows: Any, subject: Subject, **options: Any) -> list[Any]:
            nonlocal scored
            scored += sum(row.size for row in rows)
            return context.score_rows(rows, subject, **options)

        small(kind).run(make_subject("other"), replace(context, score_rows=score_rows))
        assert small(kind).tokens_scored() == scored


def test_a_recipe_hears_of_all_that_is_wrong_with_a_task_at_its_fields():
    with pytest.raises(ValidationError) as refused:
        TASKS.validate("needles", {"per_cell": 0, "lengths": [64, "1k"]})
    assert {problem["loc"] for problem in refused.value.errors()} == {("per_cell",), ("lengths", 1)}


def test_lists_from_a_recipe_become_tuples_of_what_was_written():
    made = make_task("needles", lengths=[64], depths=[0, 1.0])
    assert (made.lengths, list(map(repr, made.depths))) == ((64,), ["0", "1.0"])  # type: ignore[attr-defined]


def test_tasks_and_results_need_no_torch():
    modules = "eval eval.haystack eval.paired eval.report.record eval.report.ranking eval.report.schemes"
    code = "import sys; " + "; ".join(f"import ropewalk.{name}" for name in modules.split())
    code += (
        "; ropewalk.eval.TASKS.validate('needles', {}); print(*{'torch', 'transformers'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, check=True)
    assert done.stdout.split() == []


@pytest.fixture
def riddles():
    """A task of prompts without depth, in a unit and of items that no file of ours has heard of."""

    @task("riddles")
    @dataclass(frozen=True, kw_only=True)
    class Riddles(Task):
        words = Words(
            label="riddles solved",
            quantity="skill",
            unit="points",
            better="higher",
            items="riddles",
            axis="prompts",
            picture="curve",
        )
        lengths: tuple[int, ...] = (32, 128)
        count: Annotated[int, Field(ge=2)] = 8

        def protocol(self) -> str:
            return f"{self.count} riddles at each length."

        def tokens_scored(self) -> int:
            return sum(self.lengths) * self.count

        def run(self, subject: Subject, context: Context) -> Result:
            cells, rows = [], []
            for length in self.lengths:
                some = [np.asarray(d.tokens[:length], "int64") for d in context.documents[: self.count]]
                losses = context.score_rows(
                    some, subject, what="riddles", keep=lambda _, loss, __: loss.mean()
                )
                items = [f"{length}/{i}" for i in range(self.count)]
                cells.append(cell_of(items, losses, [1] * self.count, length=length))
                rows += some
            return self.result(cells, rows)

    yield Riddles
    del TASKS.known["riddles"]


@pytest.mark.parametrize("picture", ["curve", "grid", "bars"])
def test_a_new_task_is_one_class(riddles, picture, make_subject, documents, tmp_path, monkeypatch):
    monkeypatch.setattr(figures, "DPI", 20)
    riddles.words = replace(riddles.words, picture=picture)
    tasks = {"mine": make_task("riddles", count=6)}
    subjects = [make_subject("base"), make_subject("other", seed=1)]
    evaluations = evaluate(subjects, tasks, documents=documents, corpus="c")
    report = build_report(evaluations)
    assert [path.name for path in write_report(report, tmp_path)] == [
        "mine.png",
        "report.json",
        "report.html",
    ]
    _, row = rankings({name: [one] for name, one in evaluations.items()}, boundary=32)
    told = [*sentences(report), ranking_sentence(row), *map(str, summary_rows(report))]
    page = re.sub(r"base64,[^\"]+", "", (tmp_path / "report.html").read_text())
    assert "riddles solved, prompts of 128 tokens (6 riddles, against base)" in " ".join(told)
    assert "riddles solved, prompts of 128 tokens (6 riddles): best" in " ".join(told)
    assert any("points" in line for line in told)
    for word in ("Skill in points", "by resampling riddles", "6 riddles at each length.", "<td>128</td>"):
        assert word in page
    for foreign in ("needle", "nats", "document", "loss"):
        assert foreign not in page.lower() + " ".join(told)


def test_a_kind_belongs_to_one_class():
    class Other(Task):
        pass

    with pytest.raises(EvalError, match="needles: must be registered once"):
        task("needles")(Other)
