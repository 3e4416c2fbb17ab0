"""How does the loss depend on how much context there is?

The same documents for every model, each from its first token, one forward of `length` tokens; the loss of
a token counts for the bucket its position lies in. No window slides, so a token at position p has exactly
p tokens of context. A model that uses its window gets better along it; one that was never trained that
far gets worse.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from pydantic import Field

from ...data import Document
from ..haystack import choose_documents, document_name, refuse_few
from ..result import Result, Words, cell_of
from ..task import Context, GetTokenizer, Subject, Task, task


@task("position_loss")
@dataclass(frozen=True, kw_only=True)
class PositionLoss(Task):
    """Measure next-token loss (nats) by position bucket on the first `length` tokens of documents."""

    words = Words(label="loss", quantity="loss", unit="nats", better="lower", picture="curve")

    length: Annotated[int, Field(ge=2)] = 4096
    """Tokens of a document that are read."""
    documents: Annotated[int, Field(ge=2)] = 32
    """Held-out documents of at least `length` tokens."""
    edges: tuple[int, ...] = ()
    """Positions between which losses are averaged; empty: powers of two."""

    def __post_init__(self) -> None:
        rising = all(a < b for a, b in zip((0, *self.edges), (*self.edges, self.length), strict=True))
        self.require(
            not self.edges or rising,
            "edges",
            f"must rise between 0 and the length of {self.length}",
            "leave it out for powers of two",
        )

    @classmethod
    def sized(cls, length: int, window: int) -> PositionLoss:
        return cls(length=length)

    def protocol(self) -> str:
        return (
            f"Next-token loss on the first {self.length} tokens of {self.documents} held-out documents, one "
            "forward each, no sliding window: the token at position p sees exactly the p tokens before it. "
            "Means over tokens."
        )

    @property
    def longest(self) -> int:
        return self.length

    def tokens_scored(self) -> int:
        return self.documents * self.length

    def buckets(self) -> list[tuple[int, int]]:
        inner = self.edges or default_edges(self.length)
        return list(zip((0, *inner), (*inner, self.length), strict=True))

    def check(self, tokenizer: GetTokenizer, documents: Sequence[Document], seed: int) -> None:
        self._chosen(documents, seed)

    def check_lengths(self, lengths: Sequence[int]) -> None:
        refuse_few(lengths, length=self.length, count=self.documents, where=self.name)

    def run(self, subject: Subject, context: Context) -> Result:
        chosen = self._chosen(context.documents, context.seed)
        rows = [np.asarray(d.tokens[: self.length], dtype=np.int64) for d in chosen]
        spans = self.buckets()
        # loss[p - 1] belongs to position p; nothing predicts position 0.
        slices = [slice(max(start, 1) - 1, stop - 1) for start, stop in spans]
        means = context.score_rows(
            rows, subject, what="loss by position", keep=lambda _, loss, __: [loss[s].mean() for s in slices]
        )
        items = [document_name(d) for d in chosen]
        cells = [
            cell_of(items, values, [s.stop - s.start] * len(items), start=start, length=stop)
            for (start, stop), s, values in zip(spans, slices, np.array(means).T, strict=True)
        ]
        return self.result(cells, rows)

    def _chosen(self, documents: Sequence[Document], seed: int) -> list[Document]:
        return choose_documents(
            documents, length=self.length, count=self.documents, seed=seed, where=self.name
        )


def default_edges(length: int) -> tuple[int, ...]:
    """Return 16, 32, 64, 96, 128, 192, ...: powers of two, from 64 on with the middles, below `length`."""
    powers = [2**k for k in range(4, max(length.bit_length(), 5))]
    edges = [edge for power in powers for edge in ((power, power * 3 // 2) if power >= 64 else (power,))]
    return tuple(edge for edge in edges if edge < length)
