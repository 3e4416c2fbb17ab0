"""Is a long window worth anything, against the best that the reference model can do with its short one?

A short model need not fail on a long document: it can slide its window. So on the tokens at positions
start..stop, a model's loss with the whole document before them is set against the reference's loss with a
window of its last `window` tokens, moved by `stride`. "Sliding window" has at least four meanings in this
field, up to 14 % of perplexity apart (Press et al. 2021, YaRN's script, LongLoRA's, lm-eval's); this is
Press's: each token is scored once, tokens weigh the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from ...data import Document
from ..haystack import choose_documents, document_name, refuse_few
from ..result import Cell, Result, Words, cell_of
from ..task import Context, GetTokenizer, Subject, Task, task

WHOLE, SLIDING = "whole context", "sliding window"


@task("context_gain")
@dataclass(frozen=True, kw_only=True)
class ContextGain(Task):
    """Measure loss (nats) at positions start..stop, whole context; of the reference also a window's."""

    words = Words(label="context gain", quantity="loss", unit="nats", better="lower", picture="bars")

    start: int = 2048
    """First position scored."""
    stop: int = 4096
    """Tokens of a document that are read; positions below this are scored."""
    window: Annotated[int, Field(ge=2)] = 512
    """Tokens of the reference's sliding window."""
    stride: Annotated[int, Field(ge=1)] = 32
    """Tokens the window moves by: the last ones, which are scored."""
    documents: Annotated[int, Field(ge=2)] = 32
    """Held-out documents of at least `stop` tokens."""

    def __post_init__(self) -> None:
        self.require(
            self.stride < self.window,
            "stride",
            f"must lie in 1..{self.window - 1} tokens, below the window",
            "32 is usual; every token then has at least window - 32 tokens of context",
        )
        self.require(
            self.start >= self.window - self.stride,
            "start",
            f"must leave room for the first window: at least {self.window - self.stride} tokens",
            "begin later or use a shorter window",
        )
        self.require(
            self.stop >= self.start + self.stride,
            "stop",
            f"must lie at least one stride beyond start: {self.start + self.stride} tokens",
            "measure further",
        )

    @classmethod
    def sized(cls, length: int, window: int) -> ContextGain:
        window = min(window, length // 4)
        return cls(start=length // 2, stop=length, window=window, stride=max(1, window // 16))

    def protocol(self) -> str:
        least = self.window - self.stride
        return (
            f"Loss of the tokens at positions {self.start} to {self.stop} of {self.documents} held-out "
            "documents. Each model sees the whole document before them; the reference also as it does best: "
            f"windows of {self.window} tokens, the last {self.stride} of each scored, so that every token "
            f"has {least} to {self.window - 1} tokens of context and is scored once. Gain: the reference's "
            "loss with its sliding window less the model's with the whole context; positive is good."
        )

    @property
    def longest(self) -> int:
        return self.stop

    def tokens_scored(self) -> int:
        return self.documents * self.stop

    def check(self, tokenizer: GetTokenizer, documents: Sequence[Document], seed: int) -> None:
        self._chosen(documents, seed)

    def check_lengths(self, lengths: Sequence[int]) -> None:
        refuse_few(lengths, length=self.stop, count=self.documents, where=self.name)

    def run(self, subject: Subject, context: Context) -> Result:
        chosen = self._chosen(context.documents, context.seed)
        rows = [np.asarray(d.tokens[: self.stop], dtype=np.int64) for d in chosen]
        items = [document_name(d) for d in chosen]
        whole = context.score_rows(
            rows, subject, what=WHOLE, keep=lambda _, loss, __: loss[self.start - 1 :].mean()
        )
        cells = [self._cell(items, whole, WHOLE)]
        if subject.name == context.reference:
            cells.append(self._cell(items, self._sliding(rows, subject, context), SLIDING))
        return self.result(cells, rows)

    def ends(self) -> list[int]:
        """Return the positions where windows end; each scores the tokens since the end before it."""
        return [*range(self.start + self.stride, self.stop, self.stride), self.stop]

    def _sliding(self, rows: Sequence[NDArray[Any]], subject: Subject, context: Context) -> list[float]:
        ends = self.ends()
        new = np.diff([self.start, *ends])
        windows = [row[end - self.window : end] for row in rows for end in ends]
        sums = context.score_rows(
            windows, subject, what=SLIDING, keep=lambda i, loss, _: loss[-new[i % len(ends)] :].sum()
        )
        return [float(s) / (self.stop - self.start) for s in np.reshape(sums, (len(rows), len(ends))).sum(1)]

    def _cell(self, items: list[str], values: Sequence[float], part: str) -> Cell:
        weights = [self.stop - self.start] * len(items)
        return cell_of(items, values, weights, start=self.start, length=self.stop, part=part, against=SLIDING)

    def _chosen(self, documents: Sequence[Document], seed: int) -> list[Document]:
        return choose_documents(documents, length=self.stop, count=self.documents, seed=seed, where=self.name)
