"""The search as published: a population of vectors, its best half mutated and crossed (2402.13753).

Every child meets every document. The numbers are the public defaults of microsoft/LongRoPE (main, dim_mono):
64 + 40 x 32 vectors, whatever they bring.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .ledger import Ledger
from .space import Candidate, Space


@dataclass(frozen=True, kw_only=True)
class Published:
    """Evolve a population; parents stay while they are among the best."""

    population: int = 64
    rounds: int = 40
    parents: int = 32
    mutations: int = 16
    crossovers: int = 16

    def least(self, space: Space, documents: int) -> int:
        """Return the forwards without which no best vector is known."""
        return self.population * documents

    def most(self, documents: int) -> int | None:
        """Return the forwards of a whole search."""
        return (self.population + self.rounds * (self.mutations + self.crossovers)) * documents

    def run(
        self, space: Space, ledger: Ledger, *, seed: int, on_round: Callable[[Candidate], None]
    ) -> Candidate:
        """Return the best vector of all rounds, or of those that the ledger's limit leaves."""
        random = np.random.default_rng(seed)
        population = space.population(random, self.population, ledger.losses.__contains__)
        for _ in range(self.rounds):
            ledger.complete(population)
            population = sorted(population, key=ledger.mean)[: self.parents]
            on_round(population[0])
            if not ledger.left((self.mutations + self.crossovers) * ledger.documents):
                return population[0]
            population += self.children(space, population, ledger, random)
        ledger.complete(population)
        best = min(population, key=ledger.mean)
        on_round(best)
        return best

    def children(
        self, space: Space, parents: list[Candidate], ledger: Ledger, random: np.random.Generator
    ) -> list[Candidate]:
        """Return new vectors: mutations of drawn parents, then crossings, the better parent first."""
        made: dict[Candidate, None] = {}

        def seen(child: Candidate) -> bool:
            return child in made or child in ledger.losses

        for _ in range(self.mutations):
            made[space.mutate(random, parents[random.integers(len(parents))], seen)] = None
        for _ in range(self.crossovers):
            better, other = sorted(random.choice(len(parents), 2, replace=False))
            child = space.cross(random, parents[better], parents[other], seen)
            # Parents too alike to cross: the better one is mutated.
            made[child or space.mutate(random, parents[better], seen)] = None
        return list(made)
