"""Which packs a rank reads at a step, and the tensors it makes of them: a pure function of the step."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..data import Plan
from .attention.tiles import Groups
from .layout import Layout, Span


@dataclass(frozen=True, kw_only=True)
class Batch:
    """What one rank holds of one micro-batch: tensors [B, tokens of its spans], groups of whole packs."""

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

    def micro_batches(self, step: int, data_rank: int) -> list[list[int]]:
        """List the packs of each micro-batch of a data rank."""
        dealt = self.of_data_rank(step, data_rank)
        return [dealt[first : first + self.micro_batch] for first in range(0, len(dealt), self.micro_batch)]

    def groups(self, packs: Sequence[int]) -> Groups:
        """List the groups of each pack."""
        return [self.plan.groups(pack) for pack in packs]

    def read(self, packs: Sequence[int], spans: Sequence[Span], device: torch.device) -> Batch:
        """Read the tokens of `packs` that stand in `spans`, and no others."""
        windows = [[self.plan.read(pack, start, stop) for start, stop in spans] for pack in packs]
        tokens, positions, labels = (
            torch.stack([torch.as_tensor(np.concatenate([getattr(w, name) for w in row])) for row in windows])
            for name in ("tokens", "positions", "labels")
        )
        groups = self.groups(packs)
        lengths = group_lengths(groups, [self.plan.extents(pack) for pack in packs], spans)
        return Batch(
            tokens=tokens.to(device),
            positions=positions.to(device),
            labels=labels.to(device),
            lengths=lengths.to(device),
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


def group_lengths(groups: Groups, extents: Sequence[Sequence[int]], spans: Sequence[Span]) -> Tensor:
    """Return for each token of the spans of each row the extent of its group, [B, tokens of the spans]."""
    rows = []
    for own, reach in zip(groups, extents, strict=True):
        sizes = torch.tensor([end - begin for begin, end in own])
        whole = torch.tensor(reach).repeat_interleave(sizes)
        rows.append(torch.cat([whole[start:stop] for start, stop in spans]))
    return torch.stack(rows)
