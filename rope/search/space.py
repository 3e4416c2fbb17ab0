"""What is searched over? Vectors of divisors on a grid, and the published rules that change them.

LongRoPE (Ding et al., 2402.13753): lambda from 1 to 1 + s in steps of 0.01, never falling from one pair of
channels to the next, beside the number of first tokens that keep their positions. LongRoPE2 (Shang et al.,
2502.20082): free only from a critical pair on, from s to 2 s; NTK with its knee at that pair below it. The
operators follow LongRoPE's public code (microsoft/LongRoPE, main, c9e56aa).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np

from ..analysis import critical_dimension
from ..scheme import Base, RopeError, Scheme, make_scheme, target_factor

GRID = 100
"steps of lambda in 1"
FIRST_TOKENS = (0, 1, 2, 4, 8, 12, 16, 20, 24, 28, 32, 64, 128, 256)
"the choices of 2402.13753, table 4"
PROBABILITY = 0.3
"that a gene changes (public defaults)"
TRIES = 20
"passes of a crossover before it gives up (public defaults)"
REACH = 10
"choices, or pairs, that one unit of a coordinate spans beside ln lambda"


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """One vector: what is written to the journal, and the key under which no vector is scored twice."""

    steps: tuple[int, ...]
    "lambda of each pair of channels, in hundredths"
    first_tokens: int = 0
    critical: int | None = field(default=None, compare=False)
    "the pair from which LongRoPE2 searches; how the vector was made, not what it is"

    @property
    def factors(self) -> tuple[float, ...]:
        """Return lambda."""
        return tuple(step / GRID for step in self.steps)

    def scheme(self) -> Scheme:
        """Return the scheme that rotates by this vector, at LongRoPE's attention scale."""
        return make_scheme("longrope", factors=list(self.factors), first_tokens=self.first_tokens)

    def json(self) -> dict[str, Any]:
        """Return the journal's form."""
        vector: dict[str, Any] = {"factors": list(self.factors), "first_tokens": self.first_tokens}
        return vector if self.critical is None else vector | {"critical": self.critical}


Seen = Callable[[Candidate], bool]


@dataclass(frozen=True, kw_only=True)
class Space:
    """LongRoPE's vectors: lambda_i <= lambda_{i+1}, within 1 and 1 + s."""

    base: Base
    target_length: int
    choices: tuple[int, ...] = (0,)
    "numbers of first tokens to choose from"

    def __post_init__(self) -> None:
        """Refuse a window that does not grow."""
        if self.target_length <= self.base.original_length:
            raise RopeError(
                f"search.target_length: must be above original_length {self.base.original_length} tokens, "
                f"got {self.target_length}; raise it, or keep the scheme: there is nothing to divide"
            )

    @property
    def factor(self) -> float:
        """Return s."""
        return target_factor("longrope", self.base, self.target_length)

    @property
    def pairs(self) -> int:
        """Count the pairs of channels that rotate."""
        return self.base.rotary_dim // 2

    @property
    def lowest(self) -> int:
        """Return the least lambda in steps: 1."""
        return GRID

    @property
    def highest(self) -> int:
        """Return the largest lambda in steps: 1 + s as in the public code (the paper says 1.25 s)."""
        return round(GRID * (1 + self.factor))

    def seeds(self) -> dict[str, Candidate]:
        """Return PI, NTK and YaRN as vectors; their own attention scales are not part of a vector."""
        return {name: self.nearest(divisors(scheme, self)) for name, scheme in published_schemes().items()}

    def nearest(self, factors: Sequence[float] | np.ndarray, first_tokens: int = 0) -> Candidate:
        """Return the candidate of the space next to `factors`: risen, bounded, on the grid."""
        risen = np.maximum.accumulate(np.clip(np.asarray(factors) * GRID, GRID, self.highest))
        return Candidate(steps=tuple(int(step) for step in np.rint(risen)), first_tokens=first_tokens)

    def population(self, random: np.random.Generator, size: int, seen: Seen) -> list[Candidate]:
        """Return YaRN and mutations of it, the public code's start (the paper adds PI and NTK)."""
        yarn = self.seeds()["yarn"]
        made = {yarn: None}
        while len(made) < size:
            made[self.mutate(random, yarn, lambda child: child in made or seen(child))] = None
        return list(made)

    def mutate(self, random: np.random.Generator, parent: Candidate, seen: Seen) -> Candidate:
        """Redraw each lambda with probability 0.3 between its neighbours, again until the vector is new."""
        steps, first = list(parent.steps), parent.first_tokens
        while True:
            redraw(random, steps, parent.critical or 0, self.lowest, self.highest)
            if len(self.choices) > 1 and random.random() < PROBABILITY:
                first = int(random.choice(self.choices))
            child = self.child(parent, steps, first)
            if not seen(child):
                return child

    def child(self, parent: Candidate, steps: Sequence[int], first_tokens: int) -> Candidate:
        """Return the vector that a parent's redrawn steps make."""
        return Candidate(steps=tuple(steps), first_tokens=first_tokens)

    def cross(
        self, random: np.random.Generator, better: Candidate, other: Candidate, seen: Seen
    ) -> Candidate | None:
        """Copy genes of `other` into `better` one by one; the first rising new vector is the child."""
        genes, theirs = ([*one.steps, one.first_tokens] for one in (better, other))
        for _ in range(TRIES):
            for gene in range(len(genes)):
                if random.random() >= PROBABILITY:
                    continue
                if random.random() < 0.5:
                    genes[gene] = theirs[gene]
                child = Candidate(steps=tuple(genes[:-1]), first_tokens=genes[-1])
                if rises(child.steps) and not seen(child):
                    return child
        return None

    def prior(self) -> np.ndarray:
        """Return the covariance of coordinates before anything is known: neighbouring pairs move together."""
        pair = np.arange(self.pairs)
        near = np.exp(-0.5 * ((pair[:, None] - pair) * 8 / self.pairs) ** 2)
        covariance = np.eye(self.encode(next(iter(self.seeds().values()))).size)
        covariance[: self.pairs, : self.pairs] = 0.8 * near + 0.2 * np.eye(self.pairs)
        return covariance

    def encode(self, candidate: Candidate) -> np.ndarray:
        """Return coordinates: ln lambda of each pair, then the place among the choices over `REACH`."""
        place = self.choices.index(candidate.first_tokens) / REACH
        return np.append(np.log(candidate.factors), [place] if len(self.choices) > 1 else [])

    def decode(self, at: np.ndarray) -> Candidate:
        """Return the candidate next to coordinates."""
        first = self.choices[0] if len(self.choices) == 1 else self.choices[chosen(at[-1], len(self.choices))]
        # Coordinates may lie anywhere: what exceeds every bound is cut before it overflows.
        return self.nearest(np.exp(np.clip(at[: self.pairs], 0, math.log(self.highest))), first)


@dataclass(frozen=True, kw_only=True)
class CriticalSpace(Space):
    """LongRoPE2's vectors: lambda free from a critical pair on, within s and 2 s; NTK before it."""

    @property
    def highest(self) -> int:
        """Return 2 s in steps."""
        return round(GRID * 2 * self.factor)

    @property
    def lowest(self) -> int:
        """Return s in steps, the least that keeps the pairs from the critical on in range (equation 10)."""
        return round(GRID * self.factor)

    @property
    def criticals(self) -> range:
        """Return the pairs tried as critical: from ten turns in the original window down to one."""
        theoretical = critical_dimension(self.base) // 2
        ten_turns = pair_of_turns(self.base, 10)
        last = min(theoretical, self.pairs - 1)
        return range(max(1, min(ten_turns, last)), last + 1)

    def seeds(self) -> dict[str, Candidate]:
        """Return s, and half as much again, from each critical pair on (2502.20082, algorithm 1)."""
        levels = (self.lowest, round(1.5 * self.lowest))
        return {
            f"{pair}/{level / GRID:g}": self.level(pair, level) for pair in self.criticals for level in levels
        }

    def level(self, critical: int, step: int) -> Candidate:
        """Return one value from the critical pair on."""
        return self.complete(critical, [step] * (self.pairs - critical))

    def complete(self, critical: int, tail: Sequence[int], first_tokens: int = 0) -> Candidate:
        """Put NTK before the critical pair: the base that reaches the tail's first value just there."""
        reached = tail[0] / GRID
        before = [round(GRID * reached ** (pair / critical)) for pair in range(critical)]
        return Candidate(steps=(*before, *tail), first_tokens=first_tokens, critical=critical)

    def population(self, random: np.random.Generator, size: int, seen: Seen) -> list[Candidate]:
        """Return a value drawn within s and 2 s from a critical pair on, each pair in turn (algorithm 1)."""
        made: dict[Candidate, None] = {}
        while len(made) < size:
            pair = self.criticals[len(made) % len(self.criticals)]
            made[self.level(pair, int(random.integers(self.lowest, self.highest + 1)))] = None
        return list(made)

    def child(self, parent: Candidate, steps: Sequence[int], first_tokens: int) -> Candidate:
        """Keep what is redrawn from the critical pair on, within s and 2 s, over a new base (algorithm 2)."""
        assert parent.critical is not None
        return self.complete(parent.critical, steps[parent.critical :], first_tokens)

    def cross(
        self, random: np.random.Generator, better: Candidate, other: Candidate, seen: Seen
    ) -> Candidate | None:
        """Give none: algorithm 2 only mutates."""
        return None

    def encode(self, candidate: Candidate) -> np.ndarray:
        """Return the coordinates of `Space`, then the critical pair over `REACH`."""
        assert candidate.critical is not None
        return np.append(super().encode(candidate), candidate.critical / REACH)

    def decode(self, at: np.ndarray) -> Candidate:
        """Return the candidate next to coordinates; those below the critical pair have no say."""
        first = super().decode(at[:-1]).first_tokens
        pair = int(np.clip(np.rint(at[-1] * REACH), self.criticals[0], self.criticals[-1]))
        low, high = math.log(self.lowest / GRID), math.log(self.highest / GRID)
        tail = np.exp(np.maximum.accumulate(np.clip(at[pair : self.pairs], low, high)))
        return self.complete(pair, [int(step) for step in np.rint(tail * GRID)], first)


def published_schemes() -> dict[str, Scheme]:
    """Return the schemes that a found vector is compared with, as published."""
    return {name: make_scheme(name) for name in ("linear", "ntk", "yarn")}


def divisors(scheme: Scheme, space: Space) -> np.ndarray:
    """Return unscaled / scaled inverse frequency of a scheme, float64 [pairs]."""
    inv_freq = scheme.frequencies(space.base, target_length=space.target_length).inv_freq[0]
    return space.base.unscaled() / inv_freq


def pair_of_turns(base: Base, turns: float) -> int:
    """Return ceil(d/2 log_theta(L / 2 pi turns)): the first pair with at most so many turns in the window."""
    pairs = (
        base.rotary_dim / 2 * math.log(base.original_length / (2 * math.pi * turns)) / math.log(base.theta)
    )
    return math.ceil(pairs)


def redraw(random: np.random.Generator, steps: list[int], start: int, low: int, high: int) -> None:
    """Redraw each value from `start` on with probability 0.3, between its neighbours, in place."""
    for pair in range(start, len(steps)):
        if random.random() < PROBABILITY:
            least = steps[pair - 1] if pair > start else low
            most = steps[pair + 1] if pair + 1 < len(steps) else high
            steps[pair] = int(random.integers(least, most + 1))


def rises(steps: Sequence[int]) -> bool:
    """Say whether no value falls."""
    return all(a <= b for a, b in pairwise(steps))


def chosen(coordinate: float, count: int) -> int:
    """Return the place in a list that a coordinate over `REACH` means."""
    return int(np.clip(np.rint(coordinate * REACH), 0, count - 1))
