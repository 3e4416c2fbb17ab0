"""How are many token rows scored: in batches, over the data ranks, with the same answer on every rank?"""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray

from ..train.mesh import Mesh
from ..train.score import token_scores
from .errors import EvalError
from .task import Context, Subject

V = TypeVar("V")
Keep = Callable[[int, NDArray[np.float64], NDArray[np.bool_]], V]


def score_rows(
    rows: Sequence[NDArray[Any]], subject: Subject, context: Context, *, what: str, keep: Keep[V]
) -> list[V]:
    """Score rows of one length N and return `keep(index, loss [N - 1], correct [N - 1])` for each, in order.

    Whole batches go to data ranks, so a batch holds the same rows on every layout.
    """
    if not rows:
        return []
    batches = cut(len(rows), max(1, context.batch_tokens // rows[0].size))
    mine = share(batches, context.mesh)
    kept: dict[int, V] = {}
    for done, batch in enumerate(mine, start=1):
        tokens = torch.from_numpy(np.stack([np.asarray(rows[i], dtype=np.int64) for i in batch]))
        scores = token_scores(subject.model, tokens, mesh=context.mesh)
        loss, correct = scores.loss.double().numpy(), scores.correct.numpy()
        if not np.isfinite(loss).all():
            raise EvalError(
                f"{what} of {subject.name}: every loss must be finite, got "
                f"{np.count_nonzero(~np.isfinite(loss))} that "
                f"are not in {rows[0].size} tokens; the weights have diverged or overflow in "
                f"{subject.model.dtype}"
            )
        kept.update((i, keep(i, loss[row], correct[row])) for row, i in enumerate(batch))
        context.progress(f"{subject.name}: {what}", done, len(mine))
    whole = gather(kept, context.mesh)
    return [whole[i] for i in range(len(rows))]


def cut(count: int, size: int) -> list[range]:
    """Cut 0..count into ranges of at most `size`."""
    return [range(start, min(start + size, count)) for start in range(0, count, size)]


def share(batches: Sequence[range], mesh: Mesh) -> list[range]:
    """Return this data rank's batches; every rank gets as many.

    ZeRO-3 gathers weights over the whole world in each forward, so a rank that ran out would hang the others:
    it repeats the last batch instead, and the same numbers arrive twice.
    """
    ranks = mesh.layout.data
    even = [*batches, *[batches[-1]] * (-len(batches) % ranks)]
    return even[mesh.layout.data_rank(mesh.rank) :: ranks]


def gather(kept: dict[int, V], mesh: Mesh) -> dict[int, V]:
    """Join what each rank kept, by index."""
    if mesh.layout.world == 1:
        return kept
    parts: list[Any] = [None] * mesh.layout.world
    dist.all_gather_object(parts, kept)
    return {index: value for part in parts for index, value in part.items()}
