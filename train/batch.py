"""Which packs a rank reads at a step, and the tensors it makes of them: a pure function of the step."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..data import Plan
from .attention.kernels import Groups
from .layout import Layout


@dataclass(frozen=True, kw_only=True)
class Batch:
    """One micro-batch of one rank: tensors [B, S / sequence] of its span, groups of whole packs."""

    tokens: Tensor
    positions: Tensor
    labels: Tensor
    lengths: Tensor
    """How far apart the positions of the group are that each token stands in, and one: the group's tokens,
    which may reach over other ranks, and what its positions skip."""
    groups: Groups


@dataclass(frozen=True, kw_only=True)
class Batches:
    """Address a plan by optimizer step: `packs_per_step` packs from `step * packs_per_step` on.

    Which packs a step has is the plan's, whatever the layout; which data rank takes which, and when, is
    decided by what their attention costs.
    """

    plan: Plan
    layout: Layout
    packs_per_step: int
    micro_batch: int

    @property
    def accumulation(self) -> int:
        return self.packs_per_step // (self.layout.data * self.micro_batch)

    def packs(self, step: int) -> range:
        return range(step * self.packs_per_step, (step + 1) * self.packs_per_step)

    def trained_tokens(self, step: int) -> int:
        """Count the labels of the whole step over all ranks, known before its first micro-step."""
        return sum(self.plan.trained_tokens(pack) for pack in self.packs(step))

    def of_data_rank(self, step: int, data_rank: int) -> list[int]:
        """List a data rank's packs of a step, `micro_batch` of them a micro-step."""
        packs = self.packs(step)
        dealt = deal([self.plan.cost(pack) for pack in packs], self.layout.data)
        return [packs[place] for place in dealt[:, data_rank].tolist()]

    def of_rank(self, step: int, rank: int, device: torch.device) -> Iterator[Batch]:
        """Yield the micro-batches of `rank`, only its own span of each pack's tokens."""
        dealt = self.of_data_rank(step, self.layout.data_rank(rank))
        start, stop = self.layout.span(rank, self.plan.length)
        for first in range(0, len(dealt), self.micro_batch):
            packs = dealt[first : first + self.micro_batch]
            windows = [self.plan.read(pack, start, stop) for pack in packs]
            tokens, positions, labels = (
                torch.stack([torch.as_tensor(getattr(w, name)) for w in windows]).to(device)
                for name in ("tokens", "positions", "labels")
            )
            groups = [self.plan.groups(pack) for pack in packs]
            extents = [self.plan.extents(pack) for pack in packs]
            yield Batch(
                tokens=tokens,
                positions=positions,
                labels=labels,
                lengths=group_lengths(groups, extents, start, stop).to(device),
                groups=groups,
            )


def deal(costs: Sequence[int], ranks: int) -> np.ndarray:
    """Deal packs of these costs to ranks: their places, [rounds, ranks], a rank's packs in a column.

    Each round takes the next most expensive, so that ranks which wait for each other have packs alike, and
    gives the dearest of them to the rank that has had least. Two ranks' sums then differ by at most the
    difference between the dearest and the cheapest pack.
    """
    order = np.argsort([-cost for cost in costs], kind="stable").reshape(-1, ranks)
    totals = np.zeros(ranks, np.int64)
    dealt = np.empty_like(order)
    for number, places in enumerate(order):
        least_first = np.argsort(totals, kind="stable")
        dealt[number, least_first] = places
        totals[least_first] += np.array([costs[place] for place in places])
    return dealt


def group_lengths(groups: Groups, extents: Sequence[Sequence[int]], start: int, stop: int) -> Tensor:
    """Return for each token in [start, stop) of each row the extent of its group, [B, stop - start]."""
    rows = []
    for spans, reach in zip(groups, extents, strict=True):
        sizes = torch.tensor([end - begin for begin, end in spans])
        rows.append(torch.tensor(reach).repeat_interleave(sizes)[start:stop])
    return torch.stack(rows)
