"""Needles that depend on nothing but settings, seed and corpus, and models rigged to find some of them."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from world.evaluations import fixed_documents, fixed_tokenizer

from ropewalk import rope
from ropewalk.data.mixing.synthetic import half
from ropewalk.eval import Context, Subject, make_task
from ropewalk.eval.fitness import needles
from ropewalk.eval.haystack import Frame
from ropewalk.eval.tasks.needles import Needles


@pytest.mark.parametrize(
    ("settings", "fingerprint"),
    [
        (
            {"lengths": [300, 1000], "depths": [0, 0.25, 0.5, 1.0], "per_cell": 3, "distractors": 3},
            "2423f9c0",
        ),
        ({"lengths": [150, 400], "depths": [0.0, 0.5, 1.0], "per_cell": 4}, "97a05aba"),
    ],
)
def test_the_items_of_a_seed_are_those_they_have_always_been(settings, fingerprint):
    """Results of different versions are compared by this hash of all tokens."""
    tokenizer = fixed_tokenizer()

    def score_rows(rows, subject, *, what, keep):
        return [keep(i, np.zeros(row.size - 1), np.zeros(row.size - 1, bool)) for i, row in enumerate(rows)]

    context = Context(documents=fixed_documents(tokenizer), reference="base", score_rows=score_rows, seed=7)
    subject = Subject(name="base", model=None, tokenizer=tokenizer)  # type: ignore[arg-type]
    result = make_task("needles", **settings).run(subject, context)
    assert result.items_fingerprint[:8] == fingerprint


def test_the_needles_of_a_search_are_those_they_have_always_been():
    tokenizer = fixed_tokenizer()
    exam = needles(tokenizer, fixed_documents(tokenizer), length=300, seed=3, use="searched")
    assert exam.fingerprint[:8] == "0970cbcc"


def test_items_depend_on_nothing_but_settings_seed_and_corpus(tokenizer, documents):
    frame = Frame(tokenizer, documents)
    small = Needles(lengths=(128,), depths=(0.5,), per_cell=2)
    large = Needles(lengths=(64, 128, 256), depths=(0.0, 0.5, 1.0), per_cell=5)
    one, same = (t.prompt(frame, 0, 128, 0.5, 1).tokens for t in (small, large))
    other_seed = small.prompt(frame, 1, 128, 0.5, 1).tokens
    np.testing.assert_array_equal(one, same)
    assert (one != other_seed).any()


def test_keys_and_values_are_held_out():
    task = Needles(distractors=3)
    facts = [f for i in range(50) for f in task.facts(0, 512, 0.5, i)]
    assert {half(f.key) for f in facts} == {half(f.value) for f in facts} == {"heldout"}
    assert len({f.key for f in facts}) > 150


def answer_steps(prompt) -> list[tuple[int, int]]:
    """List the (token, next token) steps through an answer."""
    return list(pairwise(prompt.tokens[-prompt.answer_tokens - 1 :].tolist()))


def successor_model(make_plain, tokenizer, follows: dict[int, int]):
    """Rig a model whose first choice after token t is `follows[t]`, whatever came before."""
    size = len(tokenizer)
    model = make_plain(hidden_size=size, num_hidden_layers=1, tie_word_embeddings=False).float()
    with torch.no_grad():
        for layer in model.model.layers:
            layer.self_attn.o_proj.weight.zero_()
            layer.mlp.down_proj.weight.zero_()
        model.model.embed_tokens.weight.copy_(torch.eye(size))
        model.lm_head.weight.zero_()
        for token, after in follows.items():
            model.lm_head.weight[after, token] = 1
    return model


def test_found_means_every_answer_token_is_the_first_choice(make_plain, tokenizer, context):
    task = Needles(lengths=(80, 96), depths=(0.0, 0.5, 1.0), per_cell=10)
    frame = Frame(tokenizer, context.documents)
    steps = {
        f"{length}/{depth:g}/{i}": answer_steps(task.prompt(frame, context.seed, length, depth, i))
        for length in task.lengths
        for depth in task.depths
        for i in range(task.per_cell)
    }
    follows: dict[int, int] = {}
    for answer in steps.values():  # teach as many answers as do not contradict each other
        if all((follows | dict(answer)).get(a) == b == follows.get(a, b) for a, b in answer):
            follows |= dict(answer)
    model = rope.install(successor_model(make_plain, tokenizer, follows))
    result = task.run(Subject(name="base", model=model, tokenizer=tokenizer), context)
    found = {
        item: value for cell in result.cells for item, value in zip(cell.items, cell.values, strict=True)
    }
    assert found == {item: all(follows.get(a) == b for a, b in answer) for item, answer in steps.items()}
    assert 0 < sum(found.values()) < len(found)


def test_wrong_answers_count_for_nothing_and_the_frame_is_told(make_subject, context):
    task = Needles(lengths=(64, 128), depths=(0.0, 1.0), per_cell=3)
    result = task.run(make_subject(), context)
    assert [(s.length, s.depth, s.n) for s in result.scores()] == [
        (64, 0, 3),
        (64, 1, 3),
        (128, 0, 3),
        (128, 1, 3),
    ]
    assert all(0 <= s.low <= s.value <= s.high <= 1 for s in result.scores())
    assert result.notes["frame"]["statement"].startswith(result.notes["frame"]["question"])
