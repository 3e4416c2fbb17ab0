"""How are many token rows scored: in batches, over the data ranks, with the same answer on every rank?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray

from ..train.mesh import Mesh
from ..train.score import token_scores
from .errors import EvalError
from .task import Keep, Progress, Subject, silent

V = TypeVar("V")


@dataclass(frozen=True, kw_only=True)
class Forwards:
    """Forwards of at most `batch_tokens` tokens each, on the ranks of a mesh."""

    mesh: Mesh
    batch_tokens: int = 8192
    chunk: int | None = None
    """Tokens of a row that are in the model at once; None: all."""
    progress: Progress = silent

    def __post_init__(self) -> None:
        if self.batch_tokens < 1:
            raise EvalError(
                f"evaluate.batch_tokens: must be a positive number of tokens, got {self.batch_tokens}; "
                "8192 is usual"
            )

    def score_rows(
        self, rows: Sequence[NDArray[Any]], subject: Subject, *, what: str, keep: Keep[V]
    ) -> list[V]:
        """Score rows as tasks ask for them (`ScoreRows`).

        Whole batches go to data ranks, so a batch holds the same rows on every layout.
        """
        if not rows:
            return []
        size = max(1, self.batch_tokens // rows[0].size)
        batches = [range(start, min(start + size, len(rows))) for start in range(0, len(rows), size)]
        mine = batches_of_rank(batches, self.mesh)
        kept: dict[int, V] = {}
        wrong: dict[int, int] = {}
        for done, batch in enumerate(mine, start=1):
            tokens = torch.from_numpy(np.stack([np.asarray(rows[i], dtype=np.int64) for i in batch]))
            scores = token_scores(subject.model, tokens, mesh=self.mesh, chunk=self.chunk)
            loss, correct = scores.loss.double().numpy(), scores.correct.numpy()
            wrong.update((i, int(np.sum(~np.isfinite(loss[row])))) for row, i in enumerate(batch))
            kept.update((i, keep(i, loss[row], correct[row])) for row, i in enumerate(batch))
            self.progress(f"{subject.name}: {what}", done, len(mine))
        # Refused by all ranks, else those that found none would wait for the others.
        if bad := sum(joined(wrong, self.mesh).values()):
            raise EvalError(
                f"{what} of {subject.name}: every loss must be finite, got {bad} that are not in rows of "
                f"{rows[0].size} tokens; the weights have diverged or overflow in {subject.model.dtype}"
            )
        whole = joined(kept, self.mesh)
        return [whole[i] for i in range(len(rows))]


def batches_of_rank(batches: Sequence[range], mesh: Mesh) -> list[range]:
    """Return this data rank's batches; every rank gets as many.

    ZeRO-3 gathers weights over the whole world in each forward, so a rank that ran out would hang the others:
    it repeats the last batch instead, and the same numbers arrive twice.
    """
    ranks = mesh.layout.data
    even = [*batches, *[batches[-1]] * (-len(batches) % ranks)]
    return even[mesh.layout.data_rank(mesh.rank) :: ranks]


def joined(kept: dict[int, V], mesh: Mesh) -> dict[int, V]:
    """Join what each rank kept, by index."""
    if mesh.layout.world == 1:
        return kept
    parts: list[Any] = [None] * mesh.layout.world
    dist.all_gather_object(parts, kept)
    return {index: value for part in parts for index, value in part.items()}
