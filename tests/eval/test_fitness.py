"""What a search pays for: the model's own losses, whatever the layout of ranks, on documents kept apart."""

from dataclasses import replace

import numpy as np
import torch
from torch.nn.functional import cross_entropy
from world.evaluations import tiny_llama

from ropewalk import rope
from ropewalk.data import Document
from ropewalk.eval import Subject
from ropewalk.eval.fitness import Exam, Grader, needles, reading, split_documents
from ropewalk.train.mesh import Mesh

LENGTH = 128
SCHEMES = [rope.make_scheme("yarn"), rope.make_scheme("linear")]


def grader_of(subject: Subject, exam: Exam) -> Grader:
    return Grader(subject.model, {"here": exam}, target_length=LENGTH, mesh=Mesh.alone())


def slow_losses(subject: Subject, exam: Exam, scheme: rope.Scheme) -> list[float]:
    """One plain forward a row, and the mean over its counted tokens."""
    rope.install(subject.model, scheme, target_length=LENGTH, replace=True)
    found = []
    for row, counted in zip(exam.rows, exam.counted, strict=True):
        with torch.no_grad():
            logits = subject.model(torch.from_numpy(row)[None]).logits[0]
        found.append(float(cross_entropy(logits[-counted - 1 : -1], torch.from_numpy(row)[-counted:])))
    return found


def test_a_loss_is_the_models_own(make_subject, documents):
    subject, exam = make_subject(), reading(documents[:3], length=LENGTH)
    losses = grader_of(subject, exam).losses("here", [(scheme, (2, 0)) for scheme in SCHEMES])
    for scheme, (last, first) in zip(SCHEMES, losses, strict=True):
        slow = slow_losses(subject, exam, scheme)
        np.testing.assert_allclose([first, last], [slow[0], slow[2]], atol=1e-6)
    assert losses[0] != losses[1]


def test_of_a_needle_only_the_answer_counts(make_subject, tokenizer, documents):
    subject = make_subject()
    exam = needles(tokenizer, documents[:3], length=LENGTH, seed=0, use="here")
    for row, counted in zip(exam.rows, exam.counted, strict=True):
        text = tokenizer.decode(row)
        statement, *_, question = text.splitlines()
        asked, answer = tokenizer.decode(row[:-counted]).splitlines()[-1], tokenizer.decode(row[-counted:])
        assert row.size == LENGTH
        assert statement == f"{question}."
        assert question == asked + answer
        assert answer.strip().isdigit()
    losses = grader_of(subject, exam).losses("here", [(SCHEMES[0], range(3))])
    np.testing.assert_allclose(losses[0], slow_losses(subject, exam, SCHEMES[0]), atol=1e-6)


def test_needles_of_two_uses_have_no_fact_in_common(tokenizer, documents):
    facts = [
        {
            tokenizer.decode(row[-counted - 12 :]).splitlines()[-1]
            for row, counted in zip(e.rows, e.counted, strict=True)
        }
        for e in (needles(tokenizer, documents, length=LENGTH, seed=0, use=use) for use in ("one", "other"))
    ]
    assert len(facts[0]) == len(facts[1]) == len(documents)
    assert not facts[0] & facts[1]


def test_what_is_searched_on_is_not_checked_on(documents):
    later = [replace(d, start=900) for d in documents]
    searched, checked = split_documents([*documents, *later], length=900, searched=3, seed=0)
    ids = {d.id for d in searched}
    assert len(searched) == 3
    assert not ids & {d.id for d in checked}
    assert len(checked) == 2 * (len(documents) - len(ids))
    again = split_documents([*later, *documents], length=900, searched=3, seed=0)
    assert [[(d.id, d.start) for d in part] for part in again] == [
        [(d.id, d.start) for d in part] for part in (searched, checked)
    ]


def test_the_fingerprint_is_of_tokens_and_of_what_counts(documents):
    exam = reading(documents[:3], length=LENGTH)
    assert exam.fingerprint == reading(documents[:3], length=LENGTH).fingerprint
    others = (reading(documents[1:4], length=LENGTH), replace(exam, counted=(1, 1, 1)))
    assert len({exam.fingerprint, *(other.fingerprint for other in others)}) == 3


def on_ranks(sequence: int, documents: list[Document], vocabulary: int) -> list[list[float]] | None:
    """Grade two schemes on this world; what rank 0 was told, None on those that served."""
    mesh = Mesh.of_world(heads=sequence)
    exams = {"here": reading(documents, length=LENGTH)}
    grader = Grader(rope.install(tiny_llama(vocabulary)), exams, target_length=LENGTH, mesh=mesh)
    if not mesh.is_main:
        grader.serve()
        return None
    try:
        whole = grader.losses("here", [(scheme, range(3)) for scheme in SCHEMES])
        return whole + grader.losses("here", [(SCHEMES[0], [1])])
    finally:
        grader.dismiss()


def test_the_layout_of_ranks_does_not_matter(ranks, tokenizer, documents):
    alone = on_ranks(1, documents[:3], len(tokenizer))
    assert alone is not None
    assert ranks(2)(on_ranks, 1, documents[:3], len(tokenizer)) == [alone, None]
    spread, nothing = ranks(2)(on_ranks, 2, documents[:3], len(tokenizer))
    assert nothing is None
    for one, other in zip(alone, spread, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)
    assert alone[2] == [alone[0][1]]
