"""What does a scheme cost an unchanged model, document by document? What a search of factors pays for.

An exam is a few rows of one length. In `reading` they are held-out documents and every token counts
(LongRoPE, 2402.13753); in `needles` each opens with a fact and ends with its question, and only the answer
counts (LongRoPE2's needle-driven perplexity, 2502.20082). The documents searched on and those checked on are
never the same, else the best of a thousand vectors would be the luckiest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..data import Document, Facts
from ..rope import Scheme, install
from ..train.mesh import Mesh
from ..train.score import token_scores
from .errors import EvalError
from .forwards import joined
from .haystack import Frame, choose_documents, document_name, draw
from .result import fingerprint_rows
from .task import Progress, silent

LEAST_CHECKED = 6
"""Fewer documents could not tell any two schemes apart (`paired.py`)."""

Asked = Sequence[tuple[Scheme, Sequence[int]]]
"""Schemes, each with the rows it is scored on."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Exam:
    """Rows of tokens, and how many of the last tokens of each count."""

    rows: tuple[NDArray[np.int64], ...]
    counted: tuple[int, ...]

    @property
    def fingerprint(self) -> str:
        """Return the sha256 of every token and count."""
        return fingerprint_rows([*self.rows, np.array(self.counted)])


def split_documents(
    documents: Sequence[Document], *, length: int, searched: int, seed: int
) -> tuple[list[Document], list[Document]]:
    """Choose `searched` documents of at least `length` tokens by a hash of seed and id; check on all others.

    No part of a document that is searched on is checked on.
    """
    first = choose_documents(documents, length=length, count=searched, seed=seed, where="search.documents")
    taken = {d.id for d in first}
    rest = [d for d in documents if len(d.tokens) >= length and d.id not in taken]
    if len(rest) < LEAST_CHECKED:
        raise EvalError(
            f"search.documents: must leave {LEAST_CHECKED} held-out documents of at least {length} tokens to "
            f"check on, got {len(rest)} beside {searched} to search on; search on fewer, or hold out more"
        )
    return first, sorted(rest, key=lambda d: draw(seed, document_name(d)))


def reading(documents: Sequence[Document], *, length: int) -> Exam:
    """Ask for every token of the documents but the first."""
    rows = tuple(np.asarray(d.tokens[:length], dtype=np.int64) for d in documents)
    return Exam(rows=rows, counted=(length - 1,) * len(documents))


def needles(
    tokenizer: PreTrainedTokenizerBase, documents: Sequence[Document], *, length: int, seed: int, use: str
) -> Exam:
    """Ask for a fact stated before each document, after it; `use` keeps the facts of two exams apart."""
    frame = Frame(tokenizer, documents, where="search.needles")
    prompts = [
        frame.build(
            Facts(split="heldout").needle(np.random.default_rng(draw(seed, f"{use}/{i}"))),
            length=length,
            depth=0.0,
            order=[(i + step) % len(documents) for step in range(len(documents))],
        )
        for i in range(len(documents))
    ]
    return Exam(rows=tuple(p.tokens for p in prompts), counted=tuple(p.answer_tokens for p in prompts))


class Grader:
    """Grade schemes on exams over all ranks: rank 0 asks, the others serve until they are dismissed.

    Only rank 0 knows of the search, so ranks cannot disagree about what comes next. Pairs of scheme and row
    go to the data ranks in turn, one a forward, so a loss does not depend on how many ranks there are.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        exams: Mapping[str, Exam],
        *,
        target_length: int,
        mesh: Mesh,
        chunk: int | None = None,
        progress: Progress = silent,
    ) -> None:
        """`model` has a scheme installed, which is replaced; it is left with the last one graded.

        At most `chunk` tokens of a row are in the model at once; None: all.
        """
        self.model, self.exams, self.target_length = model, exams, target_length
        self.mesh, self.chunk, self.progress = mesh, chunk, progress

    def losses(self, exam: str, asked: Asked) -> list[list[float]]:
        """Return the mean loss (nats) of each scheme's counted tokens on each of its rows; rank 0 only."""
        self._tell((exam, asked))
        losses = self._graded(exam, asked)
        if not np.isfinite([loss for row in losses for loss in row]).all():
            raise EvalError(
                f"search: every loss must be finite, got {losses} of {[s.knobs for s, _ in asked]}; the "
                f"weights have overflowed in {self.model.dtype}"
            )
        return losses

    def serve(self) -> None:
        """Grade what rank 0 asks for, until it dismisses."""
        while (message := self._tell(None)) is not None:
            self._graded(*message)

    def dismiss(self) -> None:
        """Let the other ranks go."""
        self._tell(None)

    def _graded(self, exam: str, asked: Asked) -> list[list[float]]:
        pairs = [(scheme, row) for scheme, rows in asked for row in rows]
        ranks = self.mesh.layout.data
        mine = range(self.mesh.data_rank, len(pairs), ranks)
        kept: dict[int, float] = {}
        for done, index in enumerate(mine, start=1):
            kept[index] = self._loss(self.exams[exam], *pairs[index])
            if len(mine) > 1:
                self.progress(f"losses, {exam}", min(done * ranks, len(pairs)), len(pairs))
        whole = joined(kept, self.mesh)
        losses = iter([whole[index] for index in range(len(pairs))])
        return [[next(losses) for _ in rows] for _, rows in asked]

    def _loss(self, exam: Exam, scheme: Scheme, row: int) -> float:
        install(self.model, scheme, target_length=self.target_length, replace=True)
        tokens = torch.from_numpy(exam.rows[row])[None]
        loss = token_scores(self.model, tokens, mesh=self.mesh, chunk=self.chunk).loss
        return float(loss[0, -exam.counted[row] :].double().mean())

    def _tell(self, message: Any) -> Any:
        """Give every rank what rank 0 says."""
        return self.mesh.from_main(message)
