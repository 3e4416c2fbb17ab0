"""How do positions skip ahead in a short pack, so that a model meets the distances of a long one?

PoSE (Zhu et al., ICLR 2024, arXiv 2309.10400, eq. 3 to 5 with v = 0): a text of L tokens is cut into chunks
at drawn places; the positions of chunk i are its places plus u_i, with u_0 = 0 and u_i drawn evenly from
u_{i-1} to target - L. The tokens themselves stay contiguous.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, kw_only=True)
class Skips:
    """Chunks after the first of each group, in order: int64 arrays of one length."""

    group: np.ndarray
    place: np.ndarray
    """Tokens of the group before the chunk."""
    skipped: np.ndarray
    """What the chunk's positions are ahead of its places."""


def draw_skips(lengths: np.ndarray, chunks: np.ndarray, reach: int, rng: np.random.Generator) -> Skips:
    """Cut each group of these lengths into its number of chunks, or one a token where it has fewer, and draw
    the skips so that all positions lie in [0, reach)."""
    assert not len(lengths) or lengths.max() <= reach, (lengths.max(), reach)
    cuts = np.minimum(chunks, lengths) - 1
    column = np.arange(int(cuts.max(initial=0)))
    exists = column < cuts[:, None]
    shape = exists.shape
    # Even draws of distinct places: sorted draws with repetition, each moved on by its number.
    drawn = np.sort(np.where(exists, rng.random(shape), 1.0), axis=1)
    place = 1 + column + (drawn * (lengths - cuts)[:, None]).astype(np.int64)
    skipped, last = np.zeros(shape, np.int64), np.zeros(len(lengths), np.int64)
    for number in column.tolist():
        last = last + (rng.random(len(last)) * (reach - lengths - last + 1)).astype(np.int64)
        skipped[:, number] = last
    return Skips(group=np.nonzero(exists)[0], place=place[exists], skipped=skipped[exists])
