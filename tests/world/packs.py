"""A plan held in memory, to test the loop: uneven documents and token counts, a span without labels."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import torch

from ropewalk.train.batch import Batch, Batches

VOCABULARY = 97


@dataclass
class Window:
    """The fields of a plan's window."""

    tokens: np.ndarray
    positions: np.ndarray
    labels: np.ndarray


@dataclass
class MemoryPlan:
    """Packs of random tokens in uneven groups; every third pack has labels only in its last quarter."""

    length: int = 64
    packs: int = 48
    seed: int = 0
    fingerprint: str = "plan-0"
    corpus_fingerprint: str = "corpus-0"
    about: dict = field(default_factory=lambda: {"length": 64, "spec": {"seed": 0}})
    made: dict[int, Window] = field(default_factory=dict)

    def __len__(self) -> int:
        return self.packs

    def groups(self, index: int) -> list[tuple[int, int]]:
        cut = 5 + 13 * (index % 3)
        return [(0, cut), (cut, 50), (50, self.length)] if index % 2 else [(0, self.length)]

    def pack(self, index: int) -> Window:
        if index not in self.made:
            draw = np.random.default_rng([self.seed, index])
            tokens = draw.integers(VOCABULARY, size=self.length)
            positions = np.concatenate([np.arange(b - a) for a, b in self.groups(index)])
            labels = np.append(tokens[1:], -100)
            for _, stop in self.groups(index):
                labels[stop - 1] = -100
            if index % 3 == 0:
                labels[: 3 * self.length // 4] = -100
            self.made[index] = Window(tokens, positions, labels)
        return self.made[index]

    def read(self, index: int, start: int, stop: int) -> Window:
        pack = self.pack(index)
        return Window(*(x[start:stop].astype(np.int64) for x in (pack.tokens, pack.positions, pack.labels)))

    def extents(self, index: int) -> list[int]:
        return [stop - start for start, stop in self.groups(index)]

    def cost(self, index: int) -> int:
        return sum((stop - start) ** 2 for start, stop in self.groups(index))

    def trained_tokens(self, index: int) -> int:
        return int((self.pack(index).labels != -100).sum())


@dataclass
class PacksOf(MemoryPlan):
    """Packs of one kind: masked groups, documents in one group, one document, groups whose positions skip."""

    kind: str = "masked"

    def groups(self, index: int) -> list[tuple[int, int]]:
        """No group crosses token 48 where they are masked."""
        cut = 5 + 13 * (index % 3)
        masked = [(0, cut), (cut, 48), (48, self.length)]
        skipping = [(0, cut), (cut, self.length)]
        return {"masked": masked, "skipping": skipping}.get(self.kind, [(0, self.length)])

    def pack(self, index: int) -> Window:
        made = super().pack(index)
        if self.kind == "unmasked":
            made.positions = np.concatenate([np.arange(19), np.arange(self.length - 19)])
        if self.kind == "skipping":
            made.positions = np.concatenate([self.skipped(b - a) for a, b in self.groups(index)])
        return made

    def skipped(self, size: int) -> np.ndarray:
        """Positions of a group that leaps 40 tokens in its middle."""
        return np.arange(size) + 40 * (np.arange(size) >= size // 2)

    def extents(self, index: int) -> list[int]:
        leap = 40 if self.kind == "skipping" else 0
        return [size + leap if size > 1 else size for size in super().extents(index)]


def read_step(batches: Batches, step: int, rank: int) -> Iterator[Batch]:
    """Read what a rank holds of each micro-batch of a step, whole packs at once."""
    layout = batches.layout
    for packs in batches.micro_batches(step, layout.data_rank(rank)):
        yield batches.read(packs, layout.spans(rank, 0, batches.plan.length), torch.device("cpu"))
