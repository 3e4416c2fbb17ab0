"""Which pieces of documents share a pack?

Best-fit decreasing at any length: sorted distinct open remainders and bisection, so memory does not grow with
the length, and documents of one length are placed together. Or all documents run together and cut at pack
borders. A document longer than a pack becomes full packs and a remainder; no token is lost.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

Fit = Literal["best-fit", "concatenate"]


@dataclass(frozen=True, kw_only=True)
class Packing:
    """Pieces: which item, from which token of it, how many, and in which pack; `rank`, below 2**32, orders
    the pieces of a pack. Packs have no order yet."""

    item: np.ndarray
    start: np.ndarray
    length: np.ndarray
    pack: np.ndarray
    rank: np.ndarray

    @property
    def packs(self) -> int:
        return int(self.pack.max()) + 1 if len(self.pack) else 0


def pack(lengths: np.ndarray, size: int, *, fit: Fit, rng: np.random.Generator) -> Packing:
    """Put items of these lengths into packs of `size` tokens; the order in a pack, or of the run, is
    drawn."""
    lengths = np.asarray(lengths, np.int64)
    if fit == "concatenate":
        return _concatenated(lengths, size, rng.permutation(len(lengths)))
    item, start, length = _fragments(lengths, size)
    rank = rng.integers(1 << 32, size=len(item))
    return Packing(item=item, start=start, length=length, pack=best_fit(length, size), rank=rank)


def best_fit(lengths: np.ndarray, size: int) -> np.ndarray:
    """Give each length (1 to `size`) the number of its bin: longest first, each into the fullest bin that
    holds it."""
    order = np.argsort(-lengths, kind="stable")
    descending = lengths[order]
    starts = np.flatnonzero(np.diff(descending, prepend=-1))
    placed = np.empty(len(lengths), np.int64)
    bins = _Bins(size)
    stops = starts + np.diff(starts, append=len(lengths))
    runs = zip(descending[starts].tolist(), starts.tolist(), stops.tolist(), strict=True)
    for length, at, stop in runs:
        while at < stop:
            numbers, each = bins.take(length, stop - at)
            count = min(stop - at, len(numbers) * each)
            if len(numbers) == 1:
                placed[at : at + count] = numbers[0]
            else:
                placed[at : at + count] = numbers if each == 1 else np.repeat(numbers, each)[:count]
            at += count
    bin_of = np.empty_like(placed)
    bin_of[order] = placed
    return bin_of


@dataclass
class _Bins:
    """Bins that have room, by how much."""

    size: int
    count: int = 0
    remainders: list[int] = field(default_factory=list)
    """Sorted and distinct."""
    open: dict[int, list[int]] = field(default_factory=dict)

    def take(self, length: int, count: int) -> tuple[list[int], int]:
        """Give the bins that the next items of this length go to, and how many of them each takes: all that
        it holds, for a bin that took one is the fullest that holds another."""
        at = bisect_left(self.remainders, length)
        remainder = self.size if at == len(self.remainders) else self.remainders[at]
        each = remainder // length
        wanted = -(-count // each)
        if at == len(self.remainders):
            taken = list(range(self.count, self.count + wanted))
            self.count += wanted
        else:
            bins = self.open[remainder]
            taken = bins[-wanted:]
            del bins[-wanted:]
            if not bins:
                del self.open[remainder], self.remainders[at]
        full, rest = divmod(min(count, len(taken) * each), each)
        self._put(taken[:full], remainder - each * length)
        self._put(taken[full:], remainder - rest * length)
        return taken, each

    def _put(self, numbers: list[int], left: int) -> None:
        if not numbers or not left:
            return
        if left not in self.open:
            insort(self.remainders, left)
            self.open[left] = numbers
        else:
            self.open[left] += numbers


def numbered(counts: np.ndarray) -> np.ndarray:
    """Give 0, 1, ... count - 1 (int64) for each of the counts, one after the other."""
    return np.arange(int(counts.sum())) - np.repeat(np.cumsum(counts) - counts, counts)


def _fragments(lengths: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    counts = -(-lengths // size)
    item = np.repeat(np.arange(len(lengths)), counts)
    start = numbered(counts) * size
    return item, start, np.minimum(lengths[item] - start, size)


def _concatenated(lengths: np.ndarray, size: int, order: np.ndarray) -> Packing:
    """Run items together in this order and cut at every `size` tokens."""
    ends = np.cumsum(lengths[order])
    begins = ends - lengths[order]
    counts = np.where(lengths[order] > 0, -(-ends // size) - begins // size, 0)
    nth = np.repeat(np.arange(len(order)), counts)
    number = numbered(counts) + begins[nth] // size
    start, stop = np.maximum(begins[nth], number * size), np.minimum(ends[nth], (number + 1) * size)
    return Packing(
        item=order[nth],
        start=start - begins[nth],
        length=stop - start,
        pack=number,
        rank=np.arange(len(nth)),
    )
