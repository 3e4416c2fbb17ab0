"""What is refused: for every input of the room the key, the value, and a word of the cure are said."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from world.evaluations import evaluation_of

from ropewalk import rope
from ropewalk.data import Document
from ropewalk.data.mixing.synthetic import state
from ropewalk.eval import (
    Context,
    EvalError,
    Evaluation,
    Subject,
    mean_interval,
    paired_difference,
    proportion_interval,
)
from ropewalk.eval import make_task as make
from ropewalk.eval.fitness import Grader, reading, split_documents
from ropewalk.eval.forwards import Forwards
from ropewalk.eval.haystack import Frame
from ropewalk.eval.report.ranking import rank
from ropewalk.eval.report.record import build_report
from ropewalk.eval.report.write import read_report
from ropewalk.eval.result import cell_of, gain
from ropewalk.eval.run import evaluate
from ropewalk.eval.tasks.needles import Needles
from ropewalk.train.mesh import Mesh


@dataclass
class World:
    """What an input may need."""

    subject: Subject
    context: Context
    documents: list[Document]
    folder: Path

    def evaluate(self, tasks: dict[str, Any], subjects: int = 1) -> Any:
        return evaluate([self.subject] * subjects, tasks, documents=self.documents, corpus="c")

    def run(self, kind: str, **settings: Any) -> Any:
        return make(kind, **settings).run(self.subject, self.context)

    def broken(self) -> Subject:
        self.subject.model.lm_head.weight.data.fill_(float("nan"))
        return self.subject

    def prompt(self, length: int, documents: list[Document]) -> Any:
        frame = Frame(self.subject.tokenizer, documents)
        return Needles(lengths=(length,)).prompt(frame, 0, length, 0.5, 0)

    def stored(self, text: str) -> Path:
        path = self.folder / "report.json"
        path.write_text(text)
        return path


@pytest.fixture
def world(make_subject, context, documents, tmp_path) -> World:
    return World(make_subject(), context, documents, tmp_path)


CURVE = make("position_loss", length=64, documents=2)
RESULT = CURVE.result([cell_of("ab", [1.0, 2.0], [9, 9], length=64)], [np.arange(3)])
BASE = evaluation_of("base", {"curve": RESULT})


def cell(items: str) -> Any:
    return cell_of(items, range(len(items)), [1] * len(items), length=64)


def ranked(**cells: Any) -> Any:
    return rank({name: [cell] for name, cell in cells.items()}, unit="nats", better="lower")


def beside_base(changes: Any = None, **of_result: Any) -> Any:
    other = replace(BASE, results={"curve": replace(RESULT, **of_result)}, **changes or {})
    return build_report({"base": BASE, "x": other})


def blank(world: World) -> Any:
    """Build a prompt of a document that is nothing but special tokens."""
    ends = np.full(50, world.subject.tokenizer.eos_token_id, "uint32")
    frame = Frame(world.subject.tokenizer, [Document(tokens=ends, source="code", id="none")])
    return frame.build(state("zuzu", "48213"), length=100, depth=0.5, order=[0])


def overflowing(world: World) -> Any:
    exams = {"here": reading(world.documents[:1], length=64)}
    grader = Grader(world.broken().model, exams, target_length=128, mesh=Mesh.alone())
    return grader.losses("here", [(rope.make_scheme("yarn"), [0])])


SETTINGS = [
    ("nedles", {}, "kind", "nedles", "position_loss"),
    ("needles", {"length": 512}, "needles", "length", "lengths"),
    ("needles", {"per_cell": "10"}, "per_cell", "'10'", "integer"),
    ("needles", {"per_cell": True}, "per_cell", "True", "integer"),
    ("needles", {"per_cell": 0}, "per_cell", "got 0", "equal to 1"),
    ("needles", {"lengths": [512, "1k"]}, "lengths.1", "1k", "integer"),
    ("needles", {"lengths": [0]}, "lengths.0", "got 0", "equal to 1"),
    ("needles", {"lengths": []}, "needles.lengths", "()", "once"),
    ("needles", {"lengths": [512, 512]}, "needles.lengths", "512", "once"),
    ("needles", {"depths": [0.5, 50]}, "depths.1", "50", "equal to 1"),
    ("needles", {"depths": ["0.5"]}, "depths.0", "'0.5'", "number"),
    ("needles", {"distractors": -1}, "distractors", "-1", "equal to 0"),
    ("position_loss", {"length": 1}, "length", "got 1", "equal to 2"),
    ("position_loss", {"documents": 1}, "documents", "got 1", "equal to 2"),
    ("position_loss", {"length": 100, "edges": [64, 32]}, "position_loss.edges", "(64, 32)", "leave it out"),
    ("position_loss", {"length": 100, "edges": [100]}, "position_loss.edges", "100", "leave it out"),
    ("context_gain", {"stride": 512}, "context_gain.stride", "got 512", "32 is usual"),
    ("context_gain", {"stride": 0}, "stride", "got 0", "equal to 1"),
    ("context_gain", {"window": 1}, "window", "got 1", "equal to 2"),
    ("context_gain", {"start": 100}, "context_gain.start", "got 100", "shorter window"),
    ("context_gain", {"stop": 2050}, "context_gain.stop", "got 2050", "further"),
    ("context_gain", {"documents": 1.5}, "documents", "1.5", "integer"),
]

INPUTS = [
    # what is measured
    (lambda w: w.evaluate({}), "eval.tasks", "none", "position_loss"),
    (lambda w: w.evaluate({"../up": CURVE}), "eval.tasks", "'../up'", "rename"),
    (lambda w: w.evaluate({"curve": CURVE}, 2), "evaluate", "'base' twice", "rename"),
    (lambda w: Forwards(mesh=Mesh.alone(), batch_tokens=0), "batch_tokens", "got 0", "8192"),
    (lambda w: w.run("position_loss", length=5000), "position_loss", "0 of 10", "hold out"),
    (lambda w: w.run("context_gain", stop=9000), "context_gain", "1800", "lower documents"),
    (lambda w: CURVE.run(w.broken(), w.context), "of base", "got 126", "diverged"),
    # needles
    (lambda w: w.prompt(25, w.documents), "needles.lengths", "25 tokens", "longer"),
    (lambda w: w.prompt(5000, w.documents[:1]), "needles.lengths", "900", "hold out more"),
    (lambda w: w.prompt(100, []), "needles", "got 0", "hold out"),
    (blank, "needles.lengths", "got 0", "hold out more"),
    # a search
    (overflowing, "search", "nan", "overflowed"),
    (lambda w: split_documents(w.documents, length=900, searched=11, seed=0), "search", "got 10", "hold out"),
    (lambda w: split_documents(w.documents, length=900, searched=5, seed=0), "search", "got 5", "fewer"),
    (lambda w: split_documents(w.documents, length=9000, searched=5, seed=0), "search", "9000", "lower"),
    # intervals
    (lambda w: paired_difference([1.0], [2.0]), "paired", "got 1", "more documents"),
    (lambda w: paired_difference([1.0, 2.0], [1.0, 2.0, 3.0]), "paired", "2 and 3", "same settings"),
    (lambda w: paired_difference([1.0, np.nan], [0.0, 0.0]), "paired.a", "1 not finite", "diverged"),
    (lambda w: paired_difference([[1.0, 2.0]], [0.0, 0.0]), "paired.a", "(1, 2)", "an item"),
    (lambda w: mean_interval([1.0, 2.0], weights=[1.0, -1.0]), "paired.weights", "-1.0", "count tokens"),
    (lambda w: mean_interval([1.0, 2.0], weights=[0.0, 0.0]), "paired.weights", "0.0", "count tokens"),
    (lambda w: mean_interval([1.0, 2.0], resamples=10), "paired.resamples", "got 10", "10000"),
    (lambda w: mean_interval([1.0, 2.0], level=95), "paired.level", "got 95", "0.95"),
    (lambda w: proportion_interval(11, 10), "proportion", "11 of 10", "count again"),
    # a comparison
    (lambda w: build_report({}), "report", "none", "evaluate a model"),
    (lambda w: build_report({"extended": BASE}), "report", "'base'", "add it"),
    (lambda w: beside_base({"corpus": "d"}), "report.x.corpus", "'d'", "same tasks"),
    (lambda w: beside_base({"seed": 3}), "report.x.seed", "3", "same tasks"),
    (lambda w: build_report({"base": BASE, "x": replace(BASE, results={})}), "x.tasks", "[]", "same tasks"),
    (lambda w: beside_base(items_fingerprint="0" * 64), "x.curve.items", "0000", "same tasks"),
    (lambda w: beside_base(settings={"length": 9}), "x.curve.settings", "9", "same tasks"),
    (lambda w: gain(cell("ab"), cell("ba"), "lower"), "compare.reference", "2 beside 2", "same tasks"),
    (lambda w: ranked(a=cell("abc"), b=cell("ab")), "compare.b", "2 beside 3", "same tasks"),
    (lambda w: Evaluation.from_json({"format": 2}), "evaluation.format", "got 2", "version"),
    (lambda w: read_report(w.stored('{"format": 9}')), "report.json", "got 9", "version"),
]  # fmt: skip


def refused(words: tuple[str, ...], call: Any, *arguments: Any, **options: Any) -> None:
    with pytest.raises(EvalError) as raised:
        call(*arguments, **options)
    assert all(word in str(raised.value) for word in words), raised.value


@pytest.mark.parametrize(("kind", "settings", "key", "value", "cure"), SETTINGS)
def test_settings(kind, settings, key, value, cure):
    refused((key, value, cure), make, kind, **settings)


@pytest.mark.parametrize(("call", "key", "value", "cure"), INPUTS)
def test_inputs(world, call, key, value, cure):
    refused((key, value, cure), call, world)
