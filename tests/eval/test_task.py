"""Every task keeps the contract by being registered; bad settings say what to do."""

import json
import math
from dataclasses import replace

import pytest

from ropewalk.eval import TASKS, EvalError, make_task
from ropewalk.eval.report.figures import PICTURES
from ropewalk.eval.result import Result
from ropewalk.eval.task import Task, task

KINDS = sorted(TASKS)


def small(kind: str) -> Task:
    """Size a task for 256 tokens over a window of 128, with few items."""
    sized = TASKS[kind].sized(256, 128)
    few = {"documents": 3, "per_cell": 2, "stride": 32}
    return replace(sized, **{name: few[name] for name in few if hasattr(sized, name)})


@pytest.mark.parametrize("kind", KINDS)
class TestEveryTask:
    def test_says_what_it_measures(self, kind):
        made = make_task(kind)
        assert made.picture is None or made.picture in PICTURES
        assert len(made.protocol()) > 80
        assert made.unit in ("nats", "fraction")

    @pytest.mark.parametrize(("length", "window"), [(4096, 512), (131072, 8192), (512, 512), (1024, 4096)])
    def test_sizes_itself_to_any_window(self, kind, length, window):
        made = TASKS[kind].sized(length, window)
        assert (
            max(getattr(made, "length", 0), getattr(made, "stop", 0), *getattr(made, "lengths", (0,)))
            == length
        )

    def test_measures_finite_scores_that_survive_json(self, kind, make_subject, context):
        result = small(kind).run(make_subject(), context)
        again = Result.from_json(json.loads(json.dumps(result.json(), allow_nan=False)))
        assert result.scores() == again.scores()
        assert result.scores()
        assert all(math.isfinite(s.value) and s.low <= s.value <= s.high for s in result.scores())

    def test_meets_every_model_with_the_same_items(self, kind, make_subject, context):
        one = small(kind).run(make_subject("base", seed=0), context)
        two = small(kind).run(make_subject("other", seed=1, scheme="linear", target=256), context)
        assert one.items_fingerprint == two.items_fingerprint
        assert {c.key: c.items for c in two.cells}.items() <= {c.key: c.items for c in one.cells}.items()
        other_seed = small(kind).run(make_subject(), replace(context, seed=1))
        assert other_seed.items_fingerprint != one.items_fingerprint

    def test_reports_progress_to_the_end(self, kind, make_subject, context):
        seen: list[tuple[str, int, int]] = []
        small(kind).run(make_subject(), replace(context, progress=lambda *step: seen.append(step)))
        assert seen[-1][1] == seen[-1][2] > 0
        assert all(what.startswith("base: ") for what, _, _ in seen)


BAD_SETTINGS = [
    ("nedles", {}, ["nedles", "needles", "position_loss"]),
    ("needles", {"length": 512}, ["needles.length", "lengths", "drop it"]),
    ("needles", {"per_cell": "10"}, ["needles.per_cell", "whole number", "'10'", "quotes"]),
    ("needles", {"per_cell": True}, ["needles.per_cell", "True", "whole number"]),
    ("needles", {"per_cell": 0}, ["needles.per_cell", "got 0", "10 are usual"]),
    ("needles", {"lengths": [512, "1k"]}, ["needles.lengths", "list of a whole number", "1k"]),
    ("needles", {"lengths": []}, ["needles.lengths", "()", "powers of two"]),
    ("needles", {"lengths": [512, 512]}, ["needles.lengths", "512", "different"]),
    ("needles", {"depths": [0.5, 50]}, ["needles.depths", "50", "0..1"]),
    ("needles", {"distractors": -1}, ["needles.distractors", "-1", "plain task"]),
    ("position_loss", {"length": 1}, ["position_loss.length", "got 1", "target length"]),
    ("position_loss", {"documents": 1}, ["position_loss.documents", "got 1", "32 is usual"]),
    (
        "position_loss",
        {"length": 100, "edges": [64, 32]},
        ["position_loss.edges", "(64, 32)", "leave it out"],
    ),
    ("position_loss", {"length": 100, "edges": [100]}, ["position_loss.edges", "100", "leave it out"]),
    ("context_gain", {"stride": 512}, ["context_gain.stride", "got 512", "1..511"]),
    ("context_gain", {"stride": 0}, ["context_gain.stride", "got 0", "32 is usual"]),
    ("context_gain", {"window": 1}, ["context_gain.window", "got 1", "trained length"]),
    ("context_gain", {"start": 100}, ["context_gain.start", "got 100", "480", "shorter window"]),
    ("context_gain", {"stop": 2050}, ["context_gain.stop", "got 2050", "2080", "further"]),
    ("context_gain", {"documents": 1.5}, ["context_gain.documents", "1.5", "whole number"]),
]


@pytest.mark.parametrize(("kind", "settings", "words"), BAD_SETTINGS)
def test_bad_input(kind, settings, words):
    with pytest.raises(EvalError) as refused:
        make_task(kind, **settings)
    assert all(word in str(refused.value) for word in words), refused.value


def test_lists_from_a_recipe_become_tuples():
    assert make_task("needles", lengths=[64], depths=[0, 1]) == make_task(
        "needles", lengths=(64,), depths=(0, 1)
    )


def test_a_name_belongs_to_one_module():
    class Other(Task):
        pass

    with pytest.raises(EvalError, match="needles: the name must be free"):
        task("needles")(Other)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"length": 5000}, ["5000 tokens", "got 0 of 10", "1800", "hold out more"]),
        ({"length": 1500, "documents": 5}, ["got 4 of 10", "lower documents"]),
    ],
)
def test_too_few_documents_are_refused(settings, words, make_subject, context):
    with pytest.raises(EvalError) as refused:
        make_task("position_loss", **settings).run(make_subject(), context)
    assert all(word in str(refused.value) for word in words), refused.value


def test_more_documents_only_add_to_fewer(context, documents):
    from ropewalk.eval.haystack import choose_documents

    few, more = (choose_documents(documents, length=900, count=n, seed=0, where="x") for n in (4, 8))
    shuffled = choose_documents(documents[::-1], length=900, count=4, seed=0, where="x")
    assert [d.id for d in more[:4]] == [d.id for d in few] == [d.id for d in shuffled]
    assert [d.id for d in choose_documents(documents, length=900, count=4, seed=1, where="x")] != [
        d.id for d in few
    ]


def test_a_batch_of_no_tokens_is_refused(context):
    with pytest.raises(EvalError, match=r"batch_tokens.*got 0"):
        replace(context, batch_tokens=0)


def test_a_model_that_diverged_is_named(make_subject, context):
    subject = make_subject("broken")
    subject.model.lm_head.weight.data.fill_(float("nan"))
    with pytest.raises(EvalError, match=r"broken: every loss must be finite.*diverged"):
        make_task("position_loss", length=64, documents=2).run(subject, context)
