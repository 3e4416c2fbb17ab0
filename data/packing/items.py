"""What is packed: documents, each a run of spans of stored ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np


@dataclass(frozen=True, kw_only=True)
class Scope:
    """Who attends to whom in the packs of a source, and which positions its tokens have."""

    groups: Literal["document", "pack"] = "document"
    positions: Literal["reset", "continuous", "skip"] = "reset"
    """From 0 in each group, running on over the pack, or skipping ahead inside each group."""
    skip_chunks: int = 2
    """The most chunks that `skip` cuts a group into."""


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

    @property
    def count(self) -> int:
        return int(self.item[-1]) + 1 if len(self.item) else 0

    def lengths(self) -> np.ndarray:
        """Give int64 tokens of each item."""
        return np.bincount(self.item, weights=self.length).astype(np.int64)

    @classmethod
    def joined(cls, parts: Sequence[Items]) -> Items:
        """Put the items of all parts one after the other."""
        if len(parts) == 1:
            return parts[0]
        firsts = np.cumsum([0, *(part.count for part in parts)])
        item = [part.item + first for part, first in zip(parts, firsts.tolist(), strict=False)]
        row, start, length, trained = (
            np.concatenate([getattr(part, name) for part in parts])
            for name in ("row", "start", "length", "trained")
        )
        return cls(item=np.concatenate(item), row=row, start=start, length=length, trained=trained)

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
