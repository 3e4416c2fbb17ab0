"""The sliding window against an explicit loop, token by token."""

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from ropewalk.eval.tasks.context_gain import SLIDING, WHOLE, ContextGain

SETTINGS = {"start": 60, "stop": 91, "window": 32, "stride": 8, "documents": 3}


def loss_of(plain, context: np.ndarray, token: int) -> float:
    with torch.no_grad():
        logits = plain(torch.from_numpy(context.astype(np.int64))[None], use_cache=False).logits[0, -1]
    return float(-torch.log_softmax(logits, -1)[int(token)])


def test_the_window_slides_as_the_protocol_says(make_plain, make_subject, context, documents):
    result = ContextGain(**SETTINGS).run(make_subject("base"), context)
    sliding = next(c for c in result.cells if c.part == SLIDING)
    plain = make_plain()
    tokens = next(d.tokens for d in documents if d.id == sliding.items[0])
    losses = []
    for position in range(60, 91):
        end = min(60 + 8 * ((position - 60) // 8 + 1), 91)
        losses.append(loss_of(plain, tokens[end - 32 : position], tokens[position]))
        assert 32 - 8 <= position - (end - 32) < 32
    assert sliding.values[0] == pytest.approx(np.mean(losses), abs=2e-6)


def test_the_whole_context_is_the_whole_document(make_plain, make_subject, context, documents):
    result = ContextGain(**SETTINGS).run(make_subject("extended"), context)
    (whole,) = result.cells
    tokens = next(d.tokens for d in documents if d.id == whole.items[1])
    plain = make_plain()
    row = torch.from_numpy(tokens[:91].astype(np.int64))[None]
    with torch.no_grad():
        expected = cross_entropy(plain(row, use_cache=False).logits[0, 59:90], row[0, 60:]).item()
    assert whole.values[1] == pytest.approx(expected, abs=2e-6)
    assert whole.part == WHOLE


def test_every_token_is_scored_once():
    task = ContextGain(**SETTINGS)
    ends = task.ends()
    assert ends == [68, 76, 84, 91]
    assert sum(np.diff([60, *ends])) == 31


def test_a_window_that_sees_everything_is_the_whole_context(make_subject, context):
    settings = {"start": 24, "stop": 32, "window": 32, "stride": 8, "documents": 4}
    whole, sliding = ContextGain(**settings).run(make_subject("base"), context).cells
    np.testing.assert_allclose(whole.values, sliding.values, atol=1e-6)


def test_only_the_reference_slides_its_window(make_subject, context):
    task = ContextGain(**SETTINGS)
    assert [c.part for c in task.run(make_subject("base"), context).cells] == [WHOLE, SLIDING]
    assert [c.part for c in task.run(make_subject("other"), context).cells] == [WHOLE]
    assert "24 to 31 tokens of context" in task.protocol()
