"""How do chosen documents become the two tables of a plan?"""

from __future__ import annotations

import numpy as np

from ..plan import PACK, SEGMENT
from .fit import pack


def tables(
    rows: np.ndarray, lengths: np.ndarray, whole: np.ndarray, size: int, *, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Pack documents (row, first tokens taken) into packs of `size`; give the segment and the pack table.

    `whole` (bool) marks documents whose attention scope is the pack: they share packs with their like only,
    and their positions run on; the others are groups of their own, from position 0. The order of packs, and
    of segments in a pack, is drawn.
    """
    scopes = [(scope, pack(lengths[whole == scope], size)) for scope in (False, True)]
    counts = [packing.packs for _, packing in scopes]
    bins = np.concatenate([scopes[0][1].pack, scopes[1][1].pack + counts[0]])
    rng = np.random.default_rng(seed)
    place = rng.permutation(sum(counts))[bins]
    order = np.lexsort((rng.random(len(bins)), place))

    table = np.zeros(len(bins), SEGMENT)
    table["document"] = np.concatenate([rows[whole == scope][packing.item] for scope, packing in scopes])[
        order
    ]
    table["start"] = np.concatenate([packing.start for _, packing in scopes])[order]
    table["length"] = np.concatenate([packing.length for _, packing in scopes])[order]
    is_whole = np.repeat([False, True], [len(packing.item) for _, packing in scopes])[order]

    first = np.flatnonzero(np.diff(place[order], prepend=-1))
    segments = np.diff(first, append=len(table))
    ends = np.cumsum(table["length"])
    table["offset"] = ends - table["length"] - np.repeat((ends - table["length"])[first], segments)
    table["position"] = np.where(is_whole, table["offset"], 0)
    table["group"] = np.where(is_whole, 0, np.arange(len(table)) - np.repeat(first, segments))

    packs = np.zeros(len(first), PACK)
    packs["first"], packs["segments"] = first, segments
    packs["filled"] = np.add.reduceat(table["length"], first) if len(first) else 0
    packs["trained"] = packs["filled"] - np.where(is_whole[first], 1, segments)
    return table, packs
