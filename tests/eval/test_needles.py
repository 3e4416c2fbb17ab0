"""Prompts of exact length with the needle where it should be, and models rigged to find some of them."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ropewalk import rope
from ropewalk.data import Document
from ropewalk.data.mixing.synthetic import half, state
from ropewalk.eval import EvalError, Subject
from ropewalk.eval.prompts import Frame
from ropewalk.eval.tasks.needles import Needles

FACT = state("zuzu", "48213")


@pytest.fixture
def frame(tokenizer, documents):
    return Frame(tokenizer, documents)


def order(frame: Frame) -> range:
    return range(len(frame.documents))


@pytest.mark.parametrize("depth", [0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0])
@pytest.mark.parametrize("length", [64, 65, 66, 67, 500, 2000])
def test_a_prompt_is_exact_and_has_its_needle_at_the_depth(frame, tokenizer, length, depth):
    prompt = frame.build(FACT, length=length, depth=depth, order=order(frame))
    assert prompt.tokens.shape == (length,)
    text = tokenizer.decode(prompt.tokens)
    lines = text.split("\n")
    assert lines.count(FACT.statement.strip()) == 1  # a line of its own
    assert lines[-1] == FACT.question + FACT.answer
    assert tokenizer.decode(prompt.tokens[-prompt.answer_tokens :]) == FACT.answer
    assert tokenizer.decode(prompt.tokens[prompt.at :]).lstrip("\n").startswith(FACT.statement)
    share = prompt.at / (length - 30)
    assert abs(share - depth) < 0.05 + 45 / length


def test_the_extremes_touch_the_ends(frame, tokenizer):
    top = frame.build(FACT, length=300, depth=0.0, order=order(frame))
    bottom = frame.build(FACT, length=300, depth=1.0, order=order(frame))
    assert tokenizer.decode(top.tokens).startswith(FACT.statement)
    assert tokenizer.decode(bottom.tokens).endswith(f"{FACT.statement}{FACT.question}{FACT.answer}")


@given(
    length=st.integers(250, 900),
    depths=st.lists(st.floats(0, 1), min_size=1, max_size=4),
    seed=st.integers(0, 99),
)
@settings(max_examples=40, deadline=None)
def test_any_distractors_fit_exactly(tokenizer, documents, length, depths, seed):
    frame = Frame(tokenizer, documents)
    keys = [state(f"ba{'bcdf'[i]}o", f"1000{i}") for i in range(len(depths))]
    others = list(zip(depths, keys, strict=True))
    mixed = np.random.default_rng(seed).permutation(len(documents)).tolist()
    prompt = frame.build(FACT, length=length, depth=depths[0], order=mixed, others=others)
    lines = tokenizer.decode(prompt.tokens).split("\n")
    assert prompt.tokens.size == length
    assert all(lines.count(fact.statement.strip()) == 1 for fact in [FACT, *keys])


def test_the_haystack_keeps_its_tokens_and_order(frame, documents):
    prompt = frame.build(FACT, length=700, depth=0.5, order=[3, 1, 2])
    line = frame.line(0.5, FACT)
    at = (
        prompt.at
        if np.array_equal(prompt.tokens[prompt.at : prompt.at + len(line.after)], line.after)
        else None
    )
    head = prompt.tokens[: at if at is not None else prompt.at - 1]
    np.testing.assert_array_equal(head, documents[3].tokens[: head.size])


def test_special_tokens_open_a_prompt_as_they_open_documents(tokenizer, documents):
    bos = tokenizer.bos_token_id
    marked = [
        replace(d, tokens=np.concatenate([[bos], d.tokens[:200], [bos]]).astype("uint32")) for d in documents
    ]
    prompt = Frame(tokenizer, marked).build(
        FACT, length=600, depth=0.5, order=order(Frame(tokenizer, marked))
    )
    assert np.flatnonzero(prompt.tokens == bos).tolist() == [0]
    assert prompt.tokens.size == 600


def test_items_depend_on_nothing_but_settings_seed_and_corpus(frame):
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


def answer_steps(prompt) -> list[tuple[int, int]]:
    """List the (token, next token) steps through an answer."""
    tokens = prompt.tokens[-prompt.answer_tokens - 1 :].tolist()
    return list(pairwise(tokens))


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


@pytest.mark.parametrize(
    ("length", "documents_kept", "words"),
    [
        (25, 10, ["needles.lengths", "25 tokens", "longer prompts"]),
        (5000, 1, ["needles.lengths", "900", "hold out more"]),
        (100, 0, ["needles", "got 0", "hold out"]),
    ],
)
def test_a_prompt_that_does_not_fit_is_an_error(tokenizer, documents, length, documents_kept, words):
    frame = Frame(tokenizer, documents[:documents_kept])
    with pytest.raises(EvalError) as refused:
        Needles(lengths=(length,)).prompt(frame, 0, length, 0.5, 0)
    assert all(word in str(refused.value) for word in words), refused.value


def test_a_document_of_special_tokens_only_gives_no_haystack(tokenizer):
    empty = Document(tokens=np.full(50, tokenizer.eos_token_id, "uint32"), source="code", id="none")
    with pytest.raises(EvalError, match="got 0"):
        Frame(tokenizer, [empty]).build(FACT, length=100, depth=0.5, order=[0])
