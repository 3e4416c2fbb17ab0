"""Loss by position against the log-softmax of plain transformers logits."""

from itertools import pairwise

import numpy as np
import pytest
import torch

from ropewalk.eval import make_task
from ropewalk.eval.tasks.position_loss import default_edges


def reference_losses(plain, row: np.ndarray) -> np.ndarray:
    """Give the loss of tokens 1..N-1 by the model as transformers runs it."""
    tokens = torch.from_numpy(row.astype(np.int64))[None]
    with torch.no_grad():
        logits = plain(tokens, use_cache=False).logits[0, :-1]
    return -torch.log_softmax(logits, -1).gather(-1, tokens[0, 1:, None])[:, 0].numpy()


def test_losses_are_those_of_plain_transformers(make_plain, make_subject, context, documents):
    task = make_task("position_loss", length=200, documents=4)
    result = task.run(make_subject(), context)
    by_id = {d.id: d for d in documents}
    plain = make_plain()
    for item in range(4):
        losses = reference_losses(plain, by_id[result.cells[0].items[item]].tokens[:200])
        for cell in result.cells:
            expected = losses[max(cell.start, 1) - 1 : cell.length - 1].mean()
            assert cell.values[item] == pytest.approx(expected, abs=2e-6)  # scores travel as float32


def test_buckets_tile_the_window_and_weights_count_its_tokens(make_subject, context):
    result = make_task("position_loss", length=300, documents=2).run(make_subject(), context)
    spans = [(cell.start, cell.length) for cell in result.cells]
    assert spans[0][0] == 0
    assert spans[-1][1] == 300
    assert all(a[1] == b[0] for a, b in pairwise(spans))
    assert sum(cell.weights[0] for cell in result.cells) == 299


def test_scores_weigh_tokens_alike(make_subject, context):
    result = make_task("position_loss", length=100, documents=5, edges=[10]).run(make_subject(), context)
    score = result.scores()[1]
    assert score.value == pytest.approx(result.cells[1].values.mean())
    assert (score.task, score.start, score.length, score.depth, score.n) == (
        "position_loss",
        10,
        100,
        None,
        5,
    )
    assert score.low < score.value < score.high


@pytest.mark.parametrize(
    ("length", "edges"),
    [(17, (16,)), (64, (16, 32)), (65, (16, 32, 64)), (512, (16, 32, 64, 96, 128, 192, 256, 384)), (8, ())],
)
def test_default_edges_are_powers_of_two_and_middles(length, edges):
    assert default_edges(length) == edges


def test_batches_do_not_matter(make_subject, make_context):
    task = make_task("position_loss", length=150, documents=5)
    one, all_at_once = (task.run(make_subject(), make_context(batch_tokens=tokens)) for tokens in (1, 10**6))
    for a, b in zip(one.cells, all_at_once.cells, strict=True):
        np.testing.assert_allclose(a.values, b.values, atol=1e-6)
