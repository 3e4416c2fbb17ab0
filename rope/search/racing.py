"""The search for less: a cloud of smooth vectors that races over few documents first.

Two vectors are compared on the same documents, where their losses differ far more alike than the documents do: so
one document ranks a generation nearly as well as five, for a fifth of the tokens. The better half of a
generation is all that a cloud learns from; the others meet a single document. Documents are added when the
centre no longer gains, and the search ends when all of them do not help either.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .cloud import Cloud
from .ledger import Ledger, Trial
from .space import Candidate, Space


@dataclass(frozen=True, kw_only=True)
class Racing:
    """Follow the better half of each generation; see the centre on every document now and then."""

    spread: float = 0.1
    "standard deviation of ln lambda at the start"
    every: int = 5
    "generations between two looks at the centre"
    gain: float = 5e-4
    "nats a look must gain, or a document more is read a generation"

    def least(self, space: Space, documents: int) -> int:
        return len(space.seeds()) + documents

    def run(self, space: Space, ledger: Ledger, *, seed: int, on_round: Callable[[], None]) -> Candidate:
        random = np.random.default_rng(seed)
        start = self.start(space, ledger)
        cloud = Cloud(mean=space.encode(start), covariance=space.prior(), spread=self.spread)
        few, best = 1, ledger.mean(start)
        on_round()
        while ledger.left(self.every * (cloud.size + (few - 1) * cloud.size // 2) + ledger.documents):
            for _ in range(self.every):
                self.generation(space, cloud, ledger, random, few)
            ledger.complete([space.decode(cloud.mean)])
            on_round()
            reached = ledger.mean(ledger.ranked()[0])
            if best - reached < self.gain:
                if few == ledger.documents:
                    break
                few = min(2 * few, ledger.documents)
            best = reached
        return ledger.ranked()[0]

    def start(self, space: Space, ledger: Ledger) -> Candidate:
        seeds = list(dict.fromkeys(space.seeds().values()))
        ledger.pay([ledger.missing(seed, [0]) for seed in seeds])
        best = min(seeds, key=lambda seed: ledger.mean(seed, [0]))
        ledger.complete([best])
        return best

    def generation(self, space, cloud, ledger, random, few) -> None:
        points = cloud.draw(random)
        field = [space.decode(point) for point in points]
        documents = random.permutation(ledger.documents)[:few].tolist()
        half = cloud.size // 2
        order = range(len(field))
        for met, stop in ((documents[:1], len(field)), (documents, half)):
            order = order[:stop]
            todo = dict.fromkeys(field[i] for i in order)
            ledger.pay([t for c in todo if (t := ledger.missing(c, met)).documents])
            order = sorted(order, key=lambda i: ledger.mean(field[i], met))
        cloud.learn(points[order[:half]])
