"""Where are the scores of a source's documents computed and kept?

In the store, a file a scorer and source, float64, a number a document in the corpus' order. They are appended
as they are found, so a killed run goes on where it stopped; the file gets its name when it is whole.
"""

from __future__ import annotations

import fcntl
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from ..corpus.manifest import fingerprint
from ..corpus.store import Documents
from ..encoding.encoder import Encoder
from ..errors import DataError
from .scorer import Loss, Scorer

FLUSHED = 1024
"""Scores that are written together: what a killed run computes again."""
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, kw_only=True)
class Scores:
    """Scores over one corpus, computed when first asked for."""

    folder: Path
    corpus: str
    """The corpus' fingerprint."""
    loss: Loss | None = None
    """Of the model that scorers ask for losses."""
    model: str = ""
    """The model's fingerprint."""
    progress: Progress | None = None

    def of(
        self, source: str, rows: np.ndarray, scorer: Scorer, documents: Documents, encoder: Encoder
    ) -> np.ndarray:
        """Give float64 scores of a source's documents, all its rows in their order."""
        if scorer.needs_loss and self.loss is None:
            raise DataError(
                f"data.sources.{source}.score: {scorer.name} must be given a model's losses, got none; "
                "name another scorer"
            )
        target = self.folder / f"{self._fingerprint(source, scorer)}.npy"
        if not target.exists():
            self._compute(target, source, rows, scorer, documents, encoder)
        return np.load(target)

    def _fingerprint(self, source: str, scorer: Scorer) -> str:
        knobs = {"name": scorer.name, **asdict(scorer)}
        model = self.model if scorer.needs_loss else ""
        return fingerprint({"corpus": self.corpus, "source": source, "scorer": knobs, "model": model})[:24]

    def _compute(
        self,
        target: Path,
        source: str,
        rows: np.ndarray,
        scorer: Scorer,
        documents: Documents,
        encoder: Encoder,
    ) -> None:
        """Go on with what an earlier run left; one process at a time, the others wait and find it done."""
        self.folder.mkdir(parents=True, exist_ok=True)
        partial = target.with_suffix(".partial")
        with partial.open("ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            if target.exists():
                return
            done = file.tell() // 8
            file.truncate(done * 8)
            for first in range(done, len(rows), FLUSHED):
                block = [
                    self._score(int(row), source, scorer, documents, encoder)
                    for row in rows[first : first + FLUSHED]
                ]
                file.write(np.array(block, "<f8").tobytes())
                file.flush()
                if self.progress:
                    self.progress(f"score {source} (documents)", first + len(block), len(rows))
            whole = target.with_suffix(".whole.npy")
            np.save(whole, np.fromfile(partial, "<f8"))
            whole.replace(target)
            partial.unlink()

    def _score(self, row: int, source: str, scorer: Scorer, documents: Documents, encoder: Encoder) -> float:
        tokens = documents.tokens(row)
        text = tokens[len(encoder.opens) : len(tokens) - len(encoder.closes)]
        score = float(scorer(text, encoder.decode, self.loss))
        if not math.isfinite(score):
            raise DataError(
                f"data.sources.{source}.score: {scorer.name} must give numbers, got {score} "
                f"for {documents[row].id}; leave that document out by min_tokens"
            )
        return score
