"""Which documents, and how often, give exactly so many tokens with the asked share in long ones?

Length upsampling drops short documents (Fu et al. 2024, arXiv 2402.10171) until long ones hold the asked
share: with a natural share p, a share q keeps a short document with probability r = p (1 - q) / (q (1 - p))
where it keeps every long one. Here documents are taken in the order of a hash of (key, seed, copy) until
their tokens are there: the same draw, but exact, independent of the order on disk, and a larger budget only
adds. The last document of a draw is trimmed, so every budget is met to the token.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import DataError
from ..spec import LongShare

GOLDEN = 0x9E3779B97F4A7C15


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """Documents by number, with how many of their first tokens are taken: arrays of one length, int64."""

    index: np.ndarray
    taken: np.ndarray
    copy: np.ndarray
    """0 for the first time a document is drawn."""
    part: np.ndarray
    """Nondecreasing: one number a copy of the long, and a copy of the short documents."""

    @property
    def tokens(self) -> int:
        return int(self.taken.sum())

    def only(self, chosen: np.ndarray, first: int) -> Drawn:
        """Keep some (bool), their numbers counted from `first`."""
        return Drawn(
            index=self.index[chosen] - first,
            taken=self.taken[chosen],
            copy=self.copy[chosen],
            part=self.part[chosen],
        )


def budgets(weights: Sequence[float], tokens: int) -> list[int]:
    """Split `tokens` by weights that sum to 1, to whole tokens that sum exactly (largest remainder)."""
    exact = np.asarray(weights, np.float64) * tokens
    whole = np.floor(exact).astype(np.int64)
    order = np.argsort(whole - exact, kind="stable")
    whole[order[: tokens - int(whole.sum())]] += 1
    return whole.tolist()


def hashed(keys: np.ndarray, *numbers: int | np.ndarray) -> np.ndarray:
    """Mix numbers into uint64 keys, in turn, each by a step of SplitMix64 (Steele et al. 2014)."""
    state = np.asarray(keys, np.uint64)
    for number in numbers:
        if isinstance(number, int):
            state = state + np.uint64(GOLDEN * (number + 1) % 2**64)
        else:
            state = state + np.uint64(GOLDEN) * (number.astype(np.uint64) + np.uint64(1))
        state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        state = state ^ (state >> np.uint64(31))
    return state


def select(
    lengths: np.ndarray,
    keys: np.ndarray,
    *,
    budget: int,
    long: LongShare | None = None,
    repeat: float = 1.0,
    seed: int,
    where: str,
) -> Drawn:
    """Draw exactly `budget` tokens of documents with these lengths (int64) and keys (uint64).

    A DataError says what is reachable where that cannot be.
    """
    available = int(lengths.sum())
    if budget > repeat * available:
        raise DataError(
            f"{where}: its {budget:,} tokens must be at most repeat {repeat:g} x what it may draw, "
            f"got {available:,} training tokens; reachable: {int(repeat * available):,}; "
            f"lower tokens or weight, add text, or set repeat to {_up(budget, available)}"
        )
    parts: list[Drawn] = []
    for rows, cell in _cells(lengths, budget, long, repeat, where):
        for drawn in draw(lengths[rows], keys[rows], cell, seed):
            part = np.full(len(drawn.index), len(parts))
            parts.append(Drawn(index=rows[drawn.index], taken=drawn.taken, copy=drawn.copy, part=part))
    return _joined(parts)


def draw(lengths: np.ndarray, keys: np.ndarray, budget: int, seed: int) -> Iterator[Drawn]:
    """Take documents in the order of their hash, copy after copy, until they hold exactly `budget` tokens."""
    copy = 0
    while budget > 0:
        order = np.argsort(hashed(keys, seed, copy), kind="stable")
        ends = np.cumsum(lengths[order])
        count = min(int(np.searchsorted(ends, budget)) + 1, len(order))
        taken = lengths[order[:count]].copy()
        taken[-1] -= max(int(ends[count - 1]) - budget, 0)
        yield Drawn(
            index=order[:count], taken=taken, copy=np.full(count, copy), part=np.zeros(count, np.int64)
        )
        budget, copy = budget - int(taken.sum()), copy + 1


def long_share(lengths: np.ndarray, taken: np.ndarray, at_least: int) -> float:
    """Give the share of taken tokens that come from documents of at least `at_least` tokens."""
    return float(taken[lengths >= at_least].sum() / max(int(taken.sum()), 1))


def _cells(
    lengths: np.ndarray, budget: int, long: LongShare | None, repeat: float, where: str
) -> list[tuple[np.ndarray, int]]:
    """Split a budget over the long and the short documents, as (numbers, tokens)."""
    if long is None or budget == 0:
        return [(np.arange(len(lengths)), budget)]
    is_long = lengths >= long.at_least
    tokens = int(lengths[is_long].sum()), int(lengths[~is_long].sum())
    natural = tokens[0] / max(sum(tokens), 1)
    long_budget = round(max(long.share, natural) * budget)
    wanted = long_budget, budget - long_budget
    if long.share > natural or long.by == "repeat-long":
        _refuse_unreachable(tokens, wanted, long, repeat, where)
    return [(np.flatnonzero(is_long), wanted[0]), (np.flatnonzero(~is_long), wanted[1])]


def _refuse_unreachable(
    tokens: tuple[int, int], wanted: tuple[int, int], long: LongShare, repeat: float, where: str
) -> None:
    """Raise where the (long, short) documents cannot give the wanted tokens."""
    budget, share, least = sum(wanted), long.share, long.at_least
    asked = (
        f"{where}.long: a share of {share:g} of {budget:,} tokens in documents of at least {least:,} tokens"
    )
    if wanted[0] > repeat * tokens[0]:
        raw = f"{wanted[0] * sum(tokens) / (repeat * tokens[0]):,.0f}" if tokens[0] else "no number of"
        cure = f"repeat {_up(wanted[0], tokens[0])}" if tokens[0] else "a lower at_least"
        raise DataError(
            f"{asked} must be reachable, got {tokens[0]:,} such tokens (repeat {repeat:g}); "
            f"reachable: share {repeat * tokens[0] / budget:.3f} at this budget, or "
            f"{int(repeat * tokens[0] / share):,} tokens at this share; "
            f"{raw} raw tokens of such text would do; lower share or tokens, or set {cure}"
        )
    again = 1.0 if long.by == "repeat-long" else repeat
    if wanted[1] > again * tokens[1]:
        cure = "drop-short with a repeat" if long.by == "repeat-long" else "a higher repeat"
        raise DataError(
            f"{asked} must leave enough short documents, got {tokens[1]:,} tokens of them "
            f"(repeat {again:g}) for {wanted[1]:,}; raise share to at least "
            f"{1 - again * tokens[1] / budget:.3f}, lower tokens, or set {cure}"
        )


def _joined(parts: Sequence[Drawn]) -> Drawn:
    def column(name: str) -> np.ndarray:
        return np.concatenate([np.zeros(0, np.int64), *(getattr(part, name) for part in parts)])

    return Drawn(index=column("index"), taken=column("taken"), copy=column("copy"), part=column("part"))


def _up(asked: int, available: int) -> str:
    """Give a repeat cap that is enough, rounded up to hundredths."""
    return f"{np.ceil(100 * asked / max(available, 1)) / 100:g}"
