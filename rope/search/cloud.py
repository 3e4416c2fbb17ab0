"""How does a normal distribution follow what scores well? CMA-ES (Hansen's tutorial, 1604.00772).

Nothing here knows of rotation: coordinates out, the better ones back. Equation numbers are the tutorial's.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(kw_only=True)
class Cloud:
    """Hold N(mean, spread^2 covariance) over n coordinates, and the paths that adapt it."""

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
