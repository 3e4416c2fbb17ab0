"""Which documents, and how often, give a source exactly its tokens with the asked share in long documents?

Length upsampling drops short documents (Fu et al. 2024, arXiv 2402.10171) until long ones hold the asked
share; nothing is repeated beyond the recipe's cap. Documents are taken in the order of a hash of (id, copy,
seed): independent of their order on disk, and a larger budget only adds. The last document of a draw is
trimmed, so every budget is met to the token.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import DataError
from .spec import Documents as FilesSource


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Rows of a table of documents with how many of their first tokens are taken; a row may stand once a
    copy."""

    rows: np.ndarray
    taken: np.ndarray
    copies: np.ndarray
    trimmed: int
    """Tokens cut from the ends of last documents."""
    ends: int
    """Documents that were so cut."""

    @property
    def tokens(self) -> int:
        return int(self.taken.sum())


def budgets(weights: Sequence[float], tokens: int) -> list[int]:
    """Split `tokens` by weights that sum to 1, to whole tokens that sum exactly (largest remainder)."""
    exact = np.asarray(weights, np.float64) * tokens
    whole = np.floor(exact).astype(np.int64)
    order = np.argsort(whole - exact, kind="stable")
    whole[order[: tokens - int(whole.sum())]] += 1
    return whole.tolist()


def select(
    lengths: np.ndarray, ids: Sequence[str], source: FilesSource, *, budget: int, seed: int, where: str
) -> Selection:
    """Draw exactly `budget` tokens of the documents; a DataError says what is reachable where that cannot
    be."""
    if budget == 0:
        return _joined([])
    available = int(lengths.sum())
    if budget > source.repeat * available:
        raise DataError(
            f"{where}: its {budget:,} tokens must be at most repeat {source.repeat:g} x its corpus, "
            f"got {available:,} training tokens; reachable: {int(source.repeat * available):,}; "
            f"lower tokens or weight, add text, or set repeat to {_up(budget, available)}"
        )
    cells = _cells(lengths, source, budget, where)
    return _joined(
        [draw(rows, lengths[rows], [ids[int(i)] for i in rows], cell, seed) for rows, cell in cells]
    )


def long_share(lengths: np.ndarray, taken: np.ndarray, at_least: int) -> float:
    """Give the share of taken tokens that come from documents of at least `at_least` tokens."""
    return float(taken[lengths >= at_least].sum() / max(int(taken.sum()), 1))


def _cells(lengths: np.ndarray, source: FilesSource, budget: int, where: str) -> list[tuple[np.ndarray, int]]:
    """Split a source's budget over its long and its short documents, as (rows, tokens)."""
    everything = np.arange(len(lengths))
    if source.long is None:
        return [(everything, budget)]
    is_long = lengths >= source.long.at_least
    long_tokens, all_tokens = int(lengths[is_long].sum()), int(lengths.sum())
    long_budget = round(max(source.long.share, long_tokens / all_tokens) * budget)
    if source.long.share * all_tokens > long_tokens:
        _refuse_unreachable(long_tokens, all_tokens, source, budget, long_budget, where)
    return [(everything[is_long], long_budget), (everything[~is_long], budget - long_budget)]


def _refuse_unreachable(
    long_tokens: int, all_tokens: int, source: FilesSource, budget: int, long_budget: int, where: str
) -> None:
    assert source.long is not None
    repeat, share, least = source.repeat, source.long.share, source.long.at_least
    short_tokens, short_budget = all_tokens - long_tokens, budget - long_budget
    asked = (
        f"{where}.long: a share of {share:g} of {budget:,} tokens in documents of at least {least:,} tokens"
    )
    if long_budget > repeat * long_tokens:
        raw = f"{long_budget * all_tokens / (repeat * long_tokens):,.0f}" if long_tokens else "no number of"
        cure = f"repeat {_up(long_budget, long_tokens)}" if long_tokens else "a lower at_least"
        raise DataError(
            f"{asked} must be reachable, got {long_tokens:,} such tokens (repeat {repeat:g}); "
            f"reachable: share {repeat * long_tokens / budget:.3f} at this budget, or "
            f"{int(repeat * long_tokens / share):,} tokens at this share; "
            f"{raw} raw tokens of such text would do; lower share or tokens, or set {cure}"
        )
    if short_budget > repeat * short_tokens:
        raise DataError(
            f"{asked} must leave enough short documents, got {short_tokens:,} tokens of them "
            f"(repeat {repeat:g}) for {short_budget:,}; raise share to at least "
            f"{1 - repeat * short_tokens / budget:.3f}, lower tokens, or raise repeat"
        )


def draw(rows: np.ndarray, lengths: np.ndarray, ids: Sequence[str], budget: int, seed: int) -> Selection:
    """Take documents in the order of their hash, copy after copy, until they hold exactly `budget` tokens."""
    parts: list[Selection] = []
    left, copy = budget, 0
    while left > 0:
        order = np.argsort([_hash(id_, copy, seed) for id_ in ids], kind="stable")
        ends = np.cumsum(lengths[order])
        count = min(int(np.searchsorted(ends, left)) + 1, len(order))
        taken = lengths[order[:count]].copy()
        excess = max(int(ends[count - 1]) - left, 0)
        taken[-1] -= excess
        parts.append(
            Selection(
                rows=rows[order[:count]],
                taken=taken,
                copies=np.full(count, copy),
                trimmed=excess,
                ends=int(excess > 0),
            )
        )
        left, copy = left - int(taken.sum()), copy + 1
    return _joined(parts)


def _joined(parts: Sequence[Selection]) -> Selection:
    empty = np.zeros(0, np.int64)
    return Selection(
        rows=np.concatenate([empty, *(part.rows for part in parts)]),
        taken=np.concatenate([empty, *(part.taken for part in parts)]),
        copies=np.concatenate([empty, *(part.copies for part in parts)]),
        trimmed=sum(part.trimmed for part in parts),
        ends=sum(part.ends for part in parts),
    )


def _hash(id_: str, copy: int, seed: int) -> int:
    return int.from_bytes(hashlib.blake2b(f"{seed}\0{copy}\0{id_}".encode(), digest_size=8).digest(), "big")


def _up(asked: int, available: int) -> str:
    """Give a repeat cap that is enough, rounded up to hundredths."""
    return f"{np.ceil(100 * asked / max(available, 1)) / 100:g}"
