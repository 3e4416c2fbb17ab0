"""The search for less: a cloud of smooth vectors that races over few documents first.

Two vectors on the same document differ by far less than two documents do, so one document ranks a generation
nearly as well as five, for a fifth of the tokens. A cloud learns only from the better half of a generation:
the other half never meets a second document. Documents are added when the centre no longer gains, and the
search ends when all of them do not help for a while. What is found is a centre, never a single lucky child:
what fits the searched documents best does not fit others best.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from ..scheme import Array
from .ledger import Ledger
from .space import Candidate, Space


@dataclass(frozen=True, kw_only=True)
class Racing:
    """Follow the better half of each generation; look at the centre on every document now and then."""

    spread: float = 0.1
    "standard deviation of ln lambda at the start"
    every: int = 5
    "generations between two looks at the centre"
    gain: float = 5e-4
    "nats that a look must gain, else twice as many documents are read a generation"
    patience: int = 3
    "looks in a row, all documents being read, that gain less before the search ends"

    def least(self, space: Space, documents: int) -> int:
        """Return the forwards without which no best vector is known."""
        return len(set(space.seeds().values())) + documents - 1

    def most(self, documents: int) -> int | None:
        """Return None: the search ends when it gains no more."""
        return None

    def run(
        self, space: Space, ledger: Ledger, *, seed: int, on_round: Callable[[Candidate], None]
    ) -> Candidate:
        """Return the best centre; `on_round` is told the best so far at every look."""
        random = np.random.default_rng(seed)
        best = self.start(space, ledger)
        cloud = Cloud(mean=space.encode(best), covariance=space.prior(), spread=self.spread)
        few, stalled = 1, 0
        on_round(best)
        while ledger.left(self.price(cloud, few) + ledger.documents):
            for _ in range(self.every):
                documents = random.permutation(ledger.documents)[:few].tolist()
                self.generation(space, cloud, ledger, documents, random)
            centre = space.decode(cloud.mean)
            ledger.complete([centre])
            gained = ledger.mean(best) - ledger.mean(centre)
            best = centre if gained > 0 else best
            on_round(best)
            stalled = stalled + 1 if gained < self.gain and few == ledger.documents else 0
            if stalled == self.patience:
                break
            few = few if gained >= self.gain else min(2 * few, ledger.documents)
        return best

    def price(self, cloud: Cloud, few: int) -> int:
        """Return the most forwards between two looks."""
        return self.every * (cloud.size + (few - 1) * cloud.size // 2)

    def start(self, space: Space, ledger: Ledger) -> Candidate:
        """Return the seed that is best on the first document, scored on all."""
        seeds = list(dict.fromkeys(space.seeds().values()))
        ledger.meet(seeds, [0])
        best = min(seeds, key=lambda seed: ledger.mean(seed, [0]))
        ledger.complete([best])
        return best

    def generation(
        self,
        space: Space,
        cloud: Cloud,
        ledger: Ledger,
        documents: Sequence[int],
        random: np.random.Generator,
    ) -> None:
        """Race the points of a generation: all on the first document, the better half on the others."""
        points = cloud.draw(random)
        runners = [space.decode(point) for point in points]
        half = cloud.size // 2
        order = list(range(cloud.size))
        for met, stay in ((documents[:1], cloud.size), (documents, half)):
            order = order[:stay]
            ledger.meet([runners[runner] for runner in order], met)
            order.sort(key=lambda runner: ledger.mean(runners[runner], met))
        cloud.learn(points[order[:half]])


@dataclass(kw_only=True)
class Cloud:
    """Hold N(mean, spread^2 covariance) over n coordinates, and the paths that adapt it.

    CMA-ES; equation numbers are those of Hansen's tutorial (1604.00772). It knows nothing of rotation.
    """

    mean: Array
    "[n]"
    covariance: Array
    "[n, n]"
    spread: float
    generations: int = 0
    _path: Array = field(init=False, repr=False)
    "where the mean has been going, in steps of the spread"
    _white: Array = field(init=False, repr=False)
    "the same with the covariance taken out: as long as chance makes it if the spread is right"

    def __post_init__(self) -> None:
        """Start both paths at rest."""
        self._path, self._white = np.zeros_like(self.mean), np.zeros_like(self.mean)

    @property
    def size(self) -> int:
        """Count the points of a generation: 4 + 3 ln n (equation 48), made even."""
        return 2 * math.ceil((4 + 3 * math.log(self.mean.size)) / 2)

    @property
    def weights(self) -> Array:
        """Return the say of the better half, best first, summing to one (equation 49)."""
        half = self.size // 2
        raw = math.log(half + 0.5) - np.log(np.arange(1, half + 1))
        return raw / raw.sum()

    @property
    def mass(self) -> float:
        """Return how many points of equal say the weights are worth (equation 8)."""
        return float(1 / np.sum(self.weights**2))

    def draw(self, random: np.random.Generator) -> Array:
        """Return the points of a generation [size, n], in pairs mirrored at the mean."""
        half = random.standard_normal((self.size // 2, self.mean.size))
        steps = self.spread * half @ np.linalg.cholesky(self.covariance).T
        return self.mean + np.concatenate([steps, -steps])

    def learn(self, best: Array) -> None:
        """Move towards the better half of a generation [size / 2, n], the best first."""
        steps = (best - self.mean) / self.spread
        step = self.weights @ steps
        self.mean = self.mean + self.spread * step
        self.generations += 1
        surprise = self._lengthen(step)
        self._turn(step, steps, stalled=surprise > 1.4 + 2 / (self.mean.size + 1))

    def _lengthen(self, step: Array) -> float:
        """Adapt the spread to the path's length (43, 44); return that over chance's."""
        n, mass = self.mean.size, self.mass
        rate = (mass + 2) / (n + mass + 5)
        damping = 1 + rate + 2 * max(0.0, math.sqrt((mass - 1) / (n + 1)) - 1)
        white = np.linalg.solve(np.linalg.cholesky(self.covariance), step)
        self._white = (1 - rate) * self._white + math.sqrt(rate * (2 - rate) * mass) * white
        expected = math.sqrt(n) * (1 - 1 / (4 * n) + 1 / (21 * n**2))
        length = float(np.linalg.norm(self._white)) / expected
        self.spread *= math.exp(rate / damping * (length - 1))
        return length / math.sqrt(1 - (1 - rate) ** (2 * self.generations))

    def _turn(self, step: Array, steps: Array, *, stalled: bool) -> None:
        """Adapt the covariance to the path and to the better points (45 to 47); a path too long waits."""
        n, mass = self.mean.size, self.mass
        rate = (4 + mass / n) / (n + 4 + 2 * mass / n)
        self._path = (1 - rate) * self._path
        if not stalled:
            self._path = self._path + math.sqrt(rate * (2 - rate) * mass) * step
        one = 2 / ((n + 1.3) ** 2 + mass)
        many = min(1 - one, 2 * (mass - 2 + 1 / mass) / ((n + 2) ** 2 + mass))
        kept = 1 - one - many + (one * rate * (2 - rate) if stalled else 0.0)
        points = (steps.T * self.weights) @ steps
        self.covariance = kept * self.covariance + one * np.outer(self._path, self._path) + many * points
