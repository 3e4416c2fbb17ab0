"""How does a normal distribution follow what scores well? CMA-ES (Hansen, 1604.00772; equation numbers are its).

Nothing here knows of rotation: coordinates in, ranked coordinates back.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(kw_only=True)
class Cloud:
    """Hold a normal distribution N(mean, spread^2 covariance) and the paths that adapt it."""

    mean: Array
    "[n]"
    covariance: Array
    "[n, n]"
    spread: float
    generations: int = 0
    _path: Array = field(init=False, repr=False)
    _white: Array = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Start both paths at rest."""
        self._path, self._white = np.zeros_like(self.mean), np.zeros_like(self.mean)

    @property
    def size(self) -> int:
        """Count the points of a generation, 4 + 3 ln n (equation 48), made even."""
        return 2 * math.ceil((4 + 3 * math.log(self.mean.size)) / 2)

    @property
    def weights(self) -> Array:
        """Return the say of the better half, best first, summing to one (equation 49)."""
        half = self.size // 2
        raw = math.log(half + 0.5) - np.log(np.arange(1, half + 1))
        return raw / raw.sum()

    def draw(self, random: np.random.Generator) -> Array:
        """Return the points of a generation [size, n], in pairs mirrored at the mean."""
        half = random.standard_normal((self.size // 2, self.mean.size)) @ np.linalg.cholesky(self.covariance).T
        return self.mean + self.spread * np.concatenate([half, -half])

    def learn(self, best: Array) -> None:
        """Move towards the better half of a generation [size / 2, n], the best first (equations 24 to 47)."""
        n, weights = self.mean.size, self.weights
        mass = 1 / np.sum(weights**2)
        steps = (best - self.mean) / self.spread
        step = weights @ steps
        self.mean = self.mean + self.spread * step
        self.generations += 1

        along = (mass + 2) / (n + mass + 5)
        damping = 1 + along + 2 * max(0.0, math.sqrt((mass - 1) / (n + 1)) - 1)
        white = np.linalg.solve(np.linalg.cholesky(self.covariance), step)
        self._white = (1 - along) * self._white + math.sqrt(along * (2 - along) * mass) * white
        length = np.linalg.norm(self._white) / math.sqrt(1 - (1 - along) ** (2 * self.generations))
        expected = math.sqrt(n) * (1 - 1 / (4 * n) + 1 / (21 * n**2))

        stalled = length > (1.4 + 2 / (n + 1)) * expected
        slow = (4 + mass / n) / (n + 4 + 2 * mass / n)
        self._path = (1 - slow) * self._path
        if not stalled:
            self._path += math.sqrt(slow * (2 - slow) * mass) * step
        one = 2 / ((n + 1.3) ** 2 + mass)
        many = min(1 - one, 2 * (mass - 2 + 1 / mass) / ((n + 2) ** 2 + mass))
        lost = one * slow * (2 - slow) if stalled else 0.0
        self.covariance = (
            (1 - one - many + lost) * self.covariance
            + one * np.outer(self._path, self._path)
            + many * (steps.T * weights) @ steps
        )
        self.spread *= math.exp(along / damping * (np.linalg.norm(self._white) / expected - 1))
