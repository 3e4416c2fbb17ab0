"""Which pieces of documents share a pack?

Best-fit decreasing at any length: sorted distinct open remainders and bisection, so memory does not grow with
the length. A document longer than a pack becomes full packs and a remainder; no token is lost.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, kw_only=True)
class Packing:
    """Pieces: which item, from which token of it, how many, and in which pack. Neither packs nor pieces have
    an order yet."""

    item: np.ndarray
    start: np.ndarray
    length: np.ndarray
    pack: np.ndarray

    @property
    def packs(self) -> int:
        return int(self.pack.max()) + 1 if len(self.pack) else 0


def pack(lengths: np.ndarray, size: int) -> Packing:
    """Put items of these lengths into packs of `size` tokens."""
    item, start, length = _fragments(np.asarray(lengths, np.int64), size)
    return Packing(item=item, start=start, length=length, pack=best_fit(length, size))


def best_fit(lengths: np.ndarray, size: int) -> np.ndarray:
    """Give each length (at most `size`) the number of its bin: longest first, each into the fullest bin that
    holds it."""
    bins = np.zeros(len(lengths), np.int64)
    remainders: list[int] = []
    open_bins: dict[int, list[int]] = {}
    count = 0
    for index in np.argsort(-lengths, kind="stable").tolist():
        length = int(lengths[index])
        at = bisect_left(remainders, length)
        if at == len(remainders):
            chosen, left = count, size - length
            count += 1
        else:
            remainder = remainders[at]
            chosen, left = open_bins[remainder].pop(), remainder - length
            if not open_bins[remainder]:
                del open_bins[remainder], remainders[at]
        bins[index] = chosen
        if left:
            if left not in open_bins:
                insort(remainders, left)
                open_bins[left] = []
            open_bins[left].append(chosen)
    return bins


def _fragments(lengths: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    counts = -(-lengths // size)
    item = np.repeat(np.arange(len(lengths)), counts)
    nth = np.arange(len(item)) - np.repeat(np.cumsum(counts) - counts, counts)
    start = nth * size
    return item, start, np.minimum(lengths[item] - start, size)
