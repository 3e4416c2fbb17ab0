"""How good is a document for training, as one number, and where is that kept?

A scorer is a frozen dataclass of its own knobs in a file of its own under `scorers/`; `@scorer("name")` is
all the registration there is. Its knobs say what it looks at: windows, stride, how they are put together.

Scores lie in the store, a file a scorer and source, float64, a number a document in the corpus' order. They
are appended as they are found, so a killed run goes on where it stopped; the file gets its name when it is
whole.
"""

from __future__ import annotations

import fcntl
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
from pydantic import model_validator

from ..corpus.manifest import fingerprint
from ..corpus.store import Documents
from ..encoding.encoder import Encoder
from ..errors import DataError
from ..registry import PluginSection, Registry, code_of
from ..whole import remove_abandoned, whole_file

FLUSHED = 1024
"""Scores that are written together: what a killed run computes again."""


@dataclass(frozen=True, kw_only=True)
class Scorer:
    """Score documents; subclasses hold their knobs as fields."""

    name: ClassVar[str]

    def __call__(self, tokens: np.ndarray, text: Callable[[np.ndarray], str]) -> float:
        """Give the finite score of a document of uint32 tokens, without what stands before and after it.

        `text` decodes tokens, a few or all; a long document need never be one string.
        """
        raise NotImplementedError


scorer: Registry[Scorer] = Registry("scorer")


class ScoreSection(PluginSection[Scorer]):
    """A scorer, and the band of its scores that is kept."""

    registry = scorer

    keep: tuple[float, float]
    """Lowest and highest score kept, both included."""
    by: Literal["value", "quantile"] = "value"
    """`keep` are scores, or shares of the source's documents in the order of their scores."""

    @model_validator(mode="after")
    def _keeps_a_part(self) -> ScoreSection:
        low, high = self.keep
        if not low < high:
            raise ValueError(f"keep: must go from low to high, got {list(self.keep)}; swap or widen them")
        if self.by == "quantile" and not 0 <= low < high <= 1:
            raise ValueError(f"keep: must be shares between 0 and 1, got {list(self.keep)}; or set by: value")
        if self.by == "quantile" and (low, high) == (0, 1):
            raise ValueError(
                f"keep: must leave something out, got {list(self.keep)}; remove score or narrow it"
            )
        return self


@dataclass(frozen=True, kw_only=True)
class Scores:
    """Scores of a corpus' training documents, computed when first asked for."""

    folder: Path
    corpus: str
    """The corpus' fingerprint."""
    documents: Documents
    encoder: Encoder

    def of(self, source: str, rows: np.ndarray, scorer: Scorer) -> np.ndarray:
        """Give float64 scores of a source's documents, all its rows in their order."""
        knobs = {"name": scorer.name, **asdict(scorer)}
        made_by = {"corpus": self.corpus, "source": source, "scorer": knobs, "code": code_of(scorer)}
        name = fingerprint(made_by)[:24]
        target = self.folder / f"{name}.npy"
        if not target.exists():
            self._compute(target, source, rows, scorer)
        return np.load(target)

    def _compute(self, target: Path, source: str, rows: np.ndarray, scorer: Scorer) -> None:
        """Go on with what an earlier run left; one process at a time, the others wait and find it done."""
        self.folder.mkdir(parents=True, exist_ok=True)
        remove_abandoned(self.folder)
        partial = target.with_suffix(".partial")
        with partial.open("ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            if target.exists():
                return
            done = file.tell() // 8
            file.truncate(done * 8)
            for first in range(done, len(rows), FLUSHED):
                block = [self._score(int(row), source, scorer) for row in rows[first : first + FLUSHED]]
                file.write(np.array(block, "<f8").tobytes())
                file.flush()
            with whole_file(target) as writing, writing.open("wb") as whole:
                np.save(whole, np.fromfile(partial, "<f8"))
            partial.unlink()

    def _score(self, row: int, source: str, scorer: Scorer) -> float:
        tokens = self.documents.tokens(row)
        text = tokens[len(self.encoder.opens) : len(tokens) - len(self.encoder.closes)]
        score = float(scorer(text, self.encoder.decode))
        if not math.isfinite(score):
            raise DataError(
                f"data.sources.{source}.score: {scorer.name} must give numbers, got {score} "
                f"for {self.documents[row].id}; leave that document out by min_tokens"
            )
        return score
