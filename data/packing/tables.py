"""How do chosen documents become the two tables of a plan?

A row of the segment table is a span of one stored document with consecutive positions; a pack is a run of
rows.

Positions that skip ahead let a model meet the distances of a long pack in a short one. PoSE (Zhu et al., ICLR
2024, arXiv 2309.10400, eq. 3 to 5 with v = 0): a text of L tokens is cut into chunks at drawn places; the
positions of chunk i are its places plus u_i, with u_0 = 0 and u_i drawn evenly from u_{i-1} to target - L.
The tokens themselves stay contiguous.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from .fit import Fit, numbered, pack

SEGMENT = np.dtype(
    [
        ("document", "<i8"),
        ("start", "<i8"),
        ("length", "<i8"),
        ("offset", "<i8"),
        ("position", "<i8"),
        ("group", "<i4"),
        ("trained", "?"),
    ]
)
"""Row of the store, first token of it, tokens, place in the pack, position of its first token, number of its
group in the pack, whether its tokens count as labels."""
PACK = np.dtype(
    [("first", "<i8"), ("segments", "<i4"), ("filled", "<i8"), ("trained", "<i8"), ("cost", "<i8")]
)
"""First row of the segment table, rows, tokens without padding, labels that count, sum of the squared lengths
of the groups, padding's too."""


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

    def first(self, tokens: int) -> Items:
        """Keep the first `tokens` tokens of all."""
        length = np.clip(self.length - (np.cumsum(self.length) - tokens), 0, self.length)
        kept = length > 0
        return Items(
            item=self.item[kept],
            row=self.row[kept],
            start=self.start[kept],
            length=length[kept],
            trained=self.trained[kept],
        )

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


@dataclass(frozen=True, kw_only=True)
class _Pieces:
    """Runs of tokens of one item each, in the order of the plan."""

    item: np.ndarray
    start: np.ndarray
    length: np.ndarray
    pack: np.ndarray
    scope: np.ndarray


def tables(
    parts: Sequence[tuple[Items, Scope]], size: int, *, reach: int, fit: Fit = "best-fit", seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Pack items into packs of `size` tokens; give the segment and the pack table.

    Only items of one scope share a pack. The order of packs, and of documents in a pack, is drawn. Positions
    that skip lie in [0, reach).
    """
    rng = np.random.default_rng(seed)
    scoped: dict[Scope, list[Items]] = {}
    for items, scope in parts:
        if scope.groups == "pack" and scope.positions == "reset":
            scope = replace(scope, positions="continuous")  # a pack that is one group: the same
        scoped.setdefault(scope, []).append(items)
    scopes = list(scoped)
    items = Items.joined([part for same_scope in scoped.values() for part in same_scope])
    counts = [sum(part.count for part in same_scope) for same_scope in scoped.values()]
    pieces = _arranged(np.split(items.lengths(), np.cumsum(counts)[:-1]), size, fit, rng)
    segments, piece = _spans(items, pieces)
    opens = np.diff(pieces.pack[piece], prepend=-1) != 0
    masked = np.array([scope.groups == "document" for scope in scopes])[pieces.scope]
    opens |= masked[piece] & (np.diff(piece, prepend=-1) != 0)
    return _placed(segments, opens, pieces.pack[piece], pieces.scope[piece], scopes, size, reach, rng)


def _arranged(lengths: Sequence[np.ndarray], size: int, fit: Fit, rng: np.random.Generator) -> _Pieces:
    """Pack the items of each scope by themselves and put all packs into a drawn order."""
    packings = [pack(each, size, fit=fit, rng=rng) for each in lengths]
    packs = np.cumsum([0, *(packing.packs for packing in packings)])
    items = np.cumsum([0, *(len(each) for each in lengths)])
    number = np.concatenate([packing.pack + packs[at] for at, packing in enumerate(packings)])
    place = rng.permutation(packs[-1])[number]
    rank = np.concatenate([packing.rank for packing in packings])
    order = np.argsort(place << 32 | rank, kind="stable")
    return _Pieces(
        item=np.concatenate([packing.item + items[at] for at, packing in enumerate(packings)])[order],
        start=np.concatenate([packing.start for packing in packings])[order],
        length=np.concatenate([packing.length for packing in packings])[order],
        pack=place[order],
        scope=np.repeat(
            np.arange(len(packings), dtype=np.int16), [len(packing.item) for packing in packings]
        )[order],
    )


def _spans(items: Items, pieces: _Pieces) -> tuple[np.ndarray, np.ndarray]:
    """Give the segments that pieces are made of, and the piece of each; places in a pack are left open."""
    spans = np.flatnonzero(items.length)
    ends = np.cumsum(items.length[spans])
    begins = ends - items.length[spans]
    spans_of = np.bincount(items.item[spans], minlength=items.count)
    lengths = items.lengths()
    first = (np.cumsum(lengths) - lengths)[pieces.item] + pieces.start
    low = (np.cumsum(spans_of) - spans_of)[pieces.item]
    counts = np.ones(len(low), np.int64)
    many = np.flatnonzero(spans_of[pieces.item] > 1)
    low[many] = np.searchsorted(ends, first[many], side="right")
    counts[many] = np.searchsorted(begins, (first + pieces.length)[many], side="left") - low[many]
    piece = np.repeat(np.arange(len(first)), counts)
    span = numbered(counts) + np.repeat(low, counts)
    start = np.maximum(first[piece], begins[span])
    segments = np.zeros(len(piece), SEGMENT)
    segments["document"] = items.row[spans[span]]
    segments["start"] = items.start[spans[span]] + start - begins[span]
    segments["length"] = np.minimum((first + pieces.length)[piece], ends[span]) - start
    segments["trained"] = items.trained[spans[span]]
    return segments, piece


def _placed(
    segments: np.ndarray,
    opens: np.ndarray,
    pack_of: np.ndarray,
    scope_of: np.ndarray,
    scopes: Sequence[Scope],
    size: int,
    reach: int,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Fill in places, groups and positions; `opens` marks the first segment of each group."""
    first_of_group = np.flatnonzero(opens)
    lengths = np.add.reduceat(segments["length"], first_of_group) if len(opens) else np.zeros(0, np.int64)
    begins = np.cumsum(lengths) - lengths
    chunks = np.array([scope.skip_chunks if scope.positions == "skip" else 1 for scope in scopes])
    skips = draw_skips(lengths, chunks[scope_of[first_of_group]], reach, rng)
    cuts = begins[skips.group] + skips.place
    group = np.cumsum(opens) - 1
    if len(cuts):
        segments, parent = _cut(segments, cuts)
        pack_of, scope_of, group = pack_of[parent], scope_of[parent], group[parent]

    at = np.cumsum(segments["length"]) - segments["length"]
    first = np.flatnonzero(np.diff(pack_of, prepend=-1))
    rows = np.diff(first, append=len(segments))
    segments["offset"] = at - np.repeat(at[first], rows)
    segments["group"] = group - np.repeat(group[first], rows)
    inside = at - begins[group]
    if len(cuts):  # of its group's; a group begins with no skip
        marks = np.concatenate([begins, cuts])
        order = np.argsort(marks, kind="stable")
        skipped = np.concatenate([np.zeros(len(begins), np.int64), skips.skipped])[order]
        inside += skipped[np.searchsorted(marks[order], at, side="right") - 1]
    runs_on = np.array([scope.positions == "continuous" for scope in scopes])[scope_of]
    segments["position"] = np.where(runs_on, segments["offset"], inside)

    packs = np.zeros(len(first), PACK)
    if len(packs):
        packs["first"], packs["segments"] = first, rows
        packs["filled"] = np.add.reduceat(segments["length"], first)
        heads = np.diff(group, prepend=-1) != 0  # nothing in its group predicts a group's first token
        packs["trained"] = np.add.reduceat(segments["trained"] * (segments["length"] - heads), first)
        packs["cost"] = np.add.reduceat(lengths**2, group[first]) + (size - packs["filled"]) ** 2
    return segments, packs


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


def _cut(segments: np.ndarray, cuts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Cut segments at these tokens of all their tokens; also give the row that each came from."""
    ends = np.cumsum(segments["length"])
    begins = ends - segments["length"]
    starts = np.union1d(begins, cuts)
    parent = np.searchsorted(begins, starts, side="right") - 1
    pieces = segments[parent]
    pieces["start"] += starts - begins[parent]
    pieces["length"] = np.diff(starts, append=ends[-1])
    return pieces, parent
