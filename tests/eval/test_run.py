"""Evaluations: the same on every layout of ranks, and they say which model they are of."""

import json
from dataclasses import replace
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch
from world.evaluations import tiny_llama

from ropewalk import rope
from ropewalk.data import Document
from ropewalk.eval import EvalError, Evaluation, Subject, make_task
from ropewalk.eval.forwards import Forwards, batches_of_rank
from ropewalk.eval.run import evaluate, model_fingerprint
from ropewalk.train import Layout
from ropewalk.train.mesh import Mesh
from ropewalk.train.score import TokenScores

TASKS = {
    "curve": make_task("position_loss", length=128, documents=5),
    "gain": make_task("context_gain", start=64, stop=128, window=32, stride=16, documents=3),
    "needles": make_task("needles", lengths=[64, 96], depths=[0.0, 1.0], per_cell=3),
}


def on_ranks(sequence: int, tokenizer: Any, documents: list[Document]) -> dict[str, Any]:
    """Evaluate one tiny model on this world and return the evaluation's JSON."""
    model = rope.install(tiny_llama(len(tokenizer)).double())
    subject = Subject(name="base", model=model, tokenizer=tokenizer)
    mesh = Mesh.of_world(heads=sequence)
    done = evaluate(subject, TASKS, documents=documents, corpus="c", mesh=mesh, batch_tokens=256)
    return done["base"].json()


def without_seconds(evaluation: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in evaluation.items() if name != "seconds"}


def test_the_layout_of_ranks_does_not_matter(ranks, tokenizer, documents):
    alone = on_ranks(1, tokenizer, documents)
    two_data = ranks(2)(on_ranks, 1, tokenizer, documents)
    two_sequence = ranks(2)(on_ranks, 2, tokenizer, documents)
    assert two_data[0] == two_data[1]
    assert two_sequence[0] == two_sequence[1]
    assert without_seconds(two_data[0]) == without_seconds(alone)
    for one, other in zip(alone["results"].values(), two_sequence[0]["results"].values(), strict=True):
        assert one["items_fingerprint"] == other["items_fingerprint"]
        for a, b in zip(one["cells"], other["cells"], strict=True):
            np.testing.assert_allclose(a["values"], b["values"], atol=1e-6)


def meet_nan() -> str:
    """Score rows of which one's losses are no numbers: one of the data ranks sees them."""

    def scores(model: Any, tokens: torch.Tensor, mesh: Mesh, chunk: int | None) -> TokenScores:
        loss = torch.where(tokens[:, :1] == 3, torch.nan, torch.ones_like(tokens[:, 1:], dtype=torch.float32))
        return TokenScores(loss=loss, correct=loss > 0)

    forwards = Forwards(mesh=Mesh.of_world(), batch_tokens=8)
    subject: Any = SimpleNamespace(name="base", model=SimpleNamespace(dtype=torch.bfloat16))
    rows = [np.full(8, row) for row in range(5)]
    with patch("ropewalk.eval.forwards.token_scores", scores), pytest.raises(EvalError) as caught:
        forwards.score_rows(rows, subject, what="curve", keep=lambda index, loss, correct: index)
    return str(caught.value)


def test_a_loss_that_is_no_number_is_refused_by_every_rank(ranks):
    one, other = ranks(2, timeout=300)(meet_nan)
    assert one == other
    assert "curve of base: every loss must be finite, got 7 " in one
    assert "bfloat16" in one


@pytest.mark.parametrize("ranks_", [1, 2, 3, 8])
@pytest.mark.parametrize("count", [1, 4, 7])
def test_every_rank_makes_as_many_forwards_and_none_is_left_out(ranks_, count):
    batches = [range(i, i + 1) for i in range(count)]
    shares = [batches_of_rank(batches, Mesh(layout=Layout(world=ranks_), rank=r)) for r in range(ranks_)]
    assert len({len(s) for s in shares}) == 1
    assert {b for s in shares for b in s} == set(batches)


def test_an_evaluation_names_its_model_and_survives_json(make_subject, documents):
    subjects = [make_subject("base"), make_subject("scheme", scheme="yarn", target=128)]
    done = evaluate(iter(subjects), {"curve": TASKS["curve"]}, documents=documents, corpus="c0ffee")
    base, scheme = done.values()
    assert base.fingerprint == scheme.fingerprint == model_fingerprint(subjects[0].model)
    assert (base.scheme, scheme.scheme) == ("default", "yarn")
    assert base.scheme_fingerprint != scheme.scheme_fingerprint
    assert (base.trained_length, scheme.target_length) == (64, 128)
    assert base.reference == scheme.reference == "base"
    assert {s.task for s in base.scores} == {"curve"}
    again = Evaluation.from_json(json.loads(json.dumps(scheme.json())))
    assert again.json() == scheme.json()


def test_a_fingerprint_sees_one_changed_weight(make_subject):
    one, other = make_subject().model, make_subject().model
    assert model_fingerprint(one) == model_fingerprint(other)
    next(other.parameters()).data[0, 0] += 1e-9
    assert model_fingerprint(one) != model_fingerprint(other)
    assert model_fingerprint(one) != model_fingerprint(one.float())


def test_all_tasks_look_at_the_documents_before_any_forward(make_subject, documents):
    tasks = {
        "far": make_task("position_loss", length=9000),
        "gain": make_task("context_gain", documents=99),
        "hay": make_task("needles", lengths=[64, 90000]),
    }
    seen: list[Any] = []
    with pytest.raises(EvalError) as refused:
        evaluate(make_subject(), tasks, documents=documents, corpus="c", progress=lambda *s: seen.append(s))
    assert all(f"eval.tasks.{name}: " in str(refused.value) for name in tasks)
    assert not seen


def test_a_model_without_a_scheme_is_sent_to_install(make_plain, tokenizer, documents):
    subject = Subject(name="plain", model=make_plain(), tokenizer=tokenizer)
    with pytest.raises(rope.RopeError, match=r"rope.install"):
        evaluate(subject, {"curve": TASKS["curve"]}, documents=documents, corpus="c")


def test_the_reference_can_be_measured_in_another_call(make_subject, documents):
    first = evaluate(make_subject("base"), {"gain": TASKS["gain"]}, documents=documents, corpus="c")
    more = evaluate(
        replace(make_subject(), name="again"),
        {"gain": TASKS["gain"]},
        documents=documents,
        corpus="c",
        reference="base",
    )
    assert len(first["base"].results["gain"].cells) == 2
    assert len(more["again"].results["gain"].cells) == 1
