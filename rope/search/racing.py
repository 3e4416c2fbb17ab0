"""The search for less: a cloud of smooth vectors that races over few documents first.

Two vectors on the same document differ by far less than two documents do, so one document ranks a generation
nearly as well as five, for a fifth of the tokens. A cloud learns only from the better half of a generation:
the other half never meets a second document. Documents are added when the centre no longer gains, and the
search ends when all of them do not help for a while. What is found is a centre, never a single lucky child:
what fits the searched documents best does not fit others best.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from .cloud import Cloud
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
