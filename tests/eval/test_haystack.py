"""Prompts of exact length with the needle where it should be, and which documents are chosen."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.lib.stride_tricks import sliding_window_view

from ropewalk.data.mixing.synthetic import state
from ropewalk.eval.haystack import Frame, choose_documents

FACT = state("zuzu", "48213")


@pytest.fixture
def frame(tokenizer, documents):
    return Frame(tokenizer, documents)


def order(frame: Frame) -> range:
    return range(len(frame.documents))


def place_of(frame: Frame, tokens: np.ndarray) -> int:
    """Find the token where the statement, or the newline before it, was put in."""
    line = frame.line(0, FACT)
    for form in (line.before, line.after):
        for at in np.flatnonzero((sliding_window_view(tokens, form.size) == form).all(1)):
            return int(at)
    raise AssertionError(tokens)


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
    share = place_of(frame, prompt.tokens) / (length - 30)
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
    head = prompt.tokens[: place_of(frame, prompt.tokens)]
    assert head.size > 200
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


def test_more_documents_only_add_to_fewer(documents):
    def chosen(some, count, seed=0):
        return [d.id for d in choose_documents(some, length=900, count=count, seed=seed, where="x")]

    few = chosen(documents, 4)
    assert chosen(documents, 8)[:4] == few == chosen(documents[::-1], 4)
    assert chosen(documents, 4, seed=1) != few
