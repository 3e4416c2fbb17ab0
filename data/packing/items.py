"""What is packed: documents, each a run of spans of stored ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np


@dataclass(frozen=True, kw_only=True)
class Scope:
    """Who attends to whom in the packs of a source, and which positions its tokens have."""

    groups: Literal["document", "pack"] = "document"
    positions: Literal["reset", "continuous", "skip"] = "reset"
    skip_chunks: int = 2


@dataclass(frozen=True, kw_only=True)
class Items:
    """Arrays of one length, a span a row; spans of one item follow each other."""

    item: np.ndarray
    """int64, nondecreasing from 0: which document the span belongs to."""
    row: np.ndarray
    """int64: row of the corpus's training documents, counting on through the plan's made ones."""
    start: np.ndarray
    length: np.ndarray
    """int64: tokens [start, start + length) of that row."""
    trained: np.ndarray
    """bool: the span's tokens count as labels."""

    def lengths(self) -> np.ndarray:
        """Give int64 tokens of each item."""
        return np.bincount(self.item, weights=self.length).astype(np.int64)

    @classmethod
    def whole(cls, rows: np.ndarray, lengths: np.ndarray) -> Items:
        """Make each row's first tokens an item of its own."""
        count = len(rows)
        return cls(
            item=np.arange(count),
            row=np.asarray(rows, np.int64),
            start=np.zeros(count, np.int64),
            length=np.asarray(lengths, np.int64),
            trained=np.ones(count, bool),
        )
