"""Which documents of a source may be drawn at all, and why not the others?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..counts import Counts
from ..errors import DataError
from ..packing.fit import numbered
from ..spec import Selection
from .mixture import hashed
from .scorer import Scores, ScoreSection


@dataclass(frozen=True, kw_only=True)
class Candidates:
    """Documents, or pieces of exactly one length: arrays of one length, int64 but for the uint64 keys."""

    row: np.ndarray
    start: np.ndarray
    length: np.ndarray
    key: np.ndarray
    dropped: Counts
    """`min_tokens`, `max_tokens`, `score`, and `remainder` of what was cut."""


def candidates(name: str, source: Selection, scores: Scores) -> Candidates:
    """Leave out by length, then by score, then cut."""
    base, documents = getattr(source, "of", name), scores.documents
    rows = documents.of_source(base)
    lengths, keys = documents.lengths()[rows], documents.keys()[rows]
    fits = (lengths >= source.min_tokens) & (lengths <= (source.max_tokens or np.iinfo(np.int64).max))
    dropped = Counts(
        min_tokens=counted(lengths[lengths < source.min_tokens]),
        max_tokens=counted(lengths[~fits & (lengths >= source.min_tokens)]),
    )
    if source.score:
        numbers = scores.of(base, rows, source.score.made)
        band = fits & _in_band(numbers, fits, source.score)
        dropped["score"] = counted(lengths[fits & ~band])
        fits = band
    rows, lengths, keys = rows[fits], lengths[fits], keys[fits]
    if not source.document_length:
        return Candidates(row=rows, start=np.zeros_like(rows), length=lengths, key=keys, dropped=dropped)
    rest = lengths % source.document_length
    dropped["remainder"] = counted(rest[rest > 0])
    count = lengths // source.document_length
    nth = numbered(count)
    return Candidates(
        row=np.repeat(rows, count),
        start=nth * source.document_length,
        length=np.full(len(nth), source.document_length),
        key=hashed(np.repeat(keys, count), nth),
        dropped=dropped,
    )


def counted(tokens: np.ndarray) -> dict[str, int]:
    """Count documents of so many tokens each."""
    return {"documents": len(tokens), "tokens": int(tokens.sum())}


def _in_band(scores: np.ndarray, fits: np.ndarray, section: ScoreSection) -> np.ndarray:
    """Tell which scores are kept; quantiles are those of the documents that fit."""
    low, high = section.keep
    if section.by == "quantile" and fits.any():
        low, high = np.quantile(scores[fits], section.keep)
    return (scores >= low) & (scores <= high)


def refuse_long_pieces(name: str, source: Selection, length: int) -> None:
    """Raise where a piece would not fit a pack."""
    if source.document_length and source.document_length > length:
        raise DataError(
            f"data.sources.{name}.document_length: must be at most the pack's {length:,} tokens, "
            f"got {source.document_length:,}; lower it or raise data.length"
        )
