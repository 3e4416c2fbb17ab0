"""Which documents, and how often, give exactly so many tokens with the asked share in long ones?

Length upsampling drops short documents (Fu et al. 2024, arXiv 2402.10171) until long ones hold the asked
share: with a natural share p, a share q keeps a short document with probability r = p (1 - q) / (q (1 - p))
where it keeps every long one. Here documents are taken in the order of a hash of (key, seed, copy) until
their tokens are there: the same draw, but exact, independent of the order on disk, and a larger budget only
adds. The last document of a draw is trimmed, so every budget is met to the token.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

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


@dataclass(frozen=True, kw_only=True)
class Supply:
    """What documents can give: the tokens of long and of short ones (all are short where no share is asked),
    and how often."""

    long: float
    short: float
    share: LongShare | None
    repeat: float

    @classmethod
    def of(cls, lengths: np.ndarray, share: LongShare | None, repeat: float) -> Supply:
        """Count documents of these lengths."""
        long = int(lengths[lengths >= share.at_least].sum()) if share else 0
        return cls(long=long, short=int(lengths.sum()) - long, share=share, repeat=repeat)

    @property
    def tokens(self) -> float:
        return self.long + self.short

    @property
    def is_lacking(self) -> bool:
        """Tell whether no budget can be met, but for what a rounding gives."""
        return not self.tokens or (self.share is not None and not self.long)

    def times(self, factor: float) -> Supply:
        """Suppose so many times the documents."""
        return replace(self, long=self.long * factor, short=self.short * factor)

    def cells(self, budget: int) -> tuple[int, int]:
        """Split a budget over the long and the short documents."""
        if self.share is None:
            return 0, budget
        long = round(max(self.share.share, self._natural) * budget)
        return long, budget - long

    def problem(self, budget: int, where: str) -> str | None:
        """Say why a budget cannot be met, and what can be; None where it can."""
        if budget and not self.tokens:
            return (
                f"{where}: its {budget:,} tokens must come from documents that it may draw, got 0 training "
                "tokens; add text, let other lengths and scores in, or set its weight to 0"
            )
        if budget > self.repeat * self.tokens:
            return (
                f"{where}: its {budget:,} tokens must be at most repeat {self.repeat:g} x what it may draw, "
                f"got {self.tokens:,.0f} training tokens; reachable: {int(self.repeat * self.tokens):,}; "
                f"lower tokens or weight, add text, or set repeat to {_up(budget, self.tokens)}"
            )
        share = self.share
        if share and budget and (share.share > self._natural or share.by == "repeat-long"):
            return self._unreachable(budget, share, where)
        return None

    @property
    def _natural(self) -> float:
        return self.long / max(self.tokens, 1)

    def _unreachable(self, budget: int, share: LongShare, where: str) -> str | None:
        """Say why the share of long documents cannot be met."""
        asked = (
            f"{where}.long: a share of {share.share:g} of {budget:,} tokens in documents of at least "
            f"{share.at_least:,} tokens"
        )
        long, short = self.cells(budget)
        if long > self.repeat * self.long:
            raw = f"{long * self.tokens / (self.repeat * self.long):,.0f}" if self.long else "no number of"
            cure = f"repeat {_up(long, self.long)}" if self.long else "a lower at_least"
            return (
                f"{asked} must be reachable, got {self.long:,.0f} such tokens (repeat {self.repeat:g}); "
                f"reachable: share {self.repeat * self.long / budget:.3f} at this budget, or "
                f"{int(self.repeat * self.long / share.share):,} tokens at this share; "
                f"{raw} raw tokens of such text would do; lower share or tokens, or set {cure}"
            )
        again = 1.0 if share.by == "repeat-long" else self.repeat
        if short > again * self.short:
            cure = "drop-short with a repeat" if share.by == "repeat-long" else "a higher repeat"
            return (
                f"{asked} must leave enough short documents, got {self.short:,.0f} tokens of them "
                f"(repeat {again:g}) for {short:,}; raise share to at least "
                f"{1 - again * self.short / budget:.3f}, lower tokens, or set {cure}"
            )
        return None


def largest(tokens: int, fits: Callable[[int], bool]) -> int:
    """Give the largest budget up to `tokens` that can be met."""
    low, high = 0, tokens
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(middle) else (low, middle - 1)
    return low


def budgets(weights: Sequence[float], tokens: int) -> list[int]:
    """Split `tokens` by weights to whole tokens that sum exactly (largest remainder), whatever the weights'
    own sum is off by."""
    total = sum(map(Fraction, weights))
    exact = [Fraction(weight) / total * tokens for weight in weights]
    whole = [int(share) for share in exact]
    for at in sorted(range(len(exact)), key=lambda at: whole[at] - exact[at])[: tokens - sum(whole)]:
        whole[at] += 1
    return whole


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
    supply = Supply.of(lengths, long, repeat)
    if problem := supply.problem(budget, where):
        raise DataError(problem)
    is_long = lengths >= (long.at_least if long else np.inf)
    cells = zip((np.flatnonzero(is_long), np.flatnonzero(~is_long)), supply.cells(budget), strict=True)
    parts: list[Drawn] = []
    for rows, cell in cells:
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


def _joined(parts: Sequence[Drawn]) -> Drawn:
    def column(name: str) -> np.ndarray:
        return np.concatenate([np.zeros(0, np.int64), *(getattr(part, name) for part in parts)])

    return Drawn(index=column("index"), taken=column("taken"), copy=column("copy"), part=column("part"))


def _up(asked: int, available: float) -> str:
    """Give a repeat cap that is enough, rounded up to hundredths."""
    return f"{np.ceil(100 * asked / max(available, 1)) / 100:g}"
