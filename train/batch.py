"""Which packs a rank reads at a step, and the tensors it makes of them: a pure function of the step."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ..data import Plan
from .kernels import Groups
from .layout import Layout


@dataclass(frozen=True, kw_only=True)
class Batch:
    """One micro-batch of one rank: tensors [B, S / sequence] of its span, groups of whole packs."""

    tokens: Tensor
    positions: Tensor
    labels: Tensor
    lengths: Tensor
    """Tokens of the group that each token stands in, which may reach over other ranks."""
    groups: Groups


@dataclass(frozen=True, kw_only=True)
class Batches:
    """Address a plan by optimizer step: `packs_per_step` packs from `step * packs_per_step` on."""

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

    def of_rank(self, step: int, rank: int, device: torch.device) -> Iterator[Batch]:
        """Yield the micro-batches of `rank`, only its own span of each pack's tokens."""
        share = self.packs_per_step // self.layout.data
        first = self.packs(step).start + self.layout.data_rank(rank) * share
        start, stop = self.layout.span(rank, self.plan.length)
        for micro in range(first, first + share, self.micro_batch):
            packs = range(micro, micro + self.micro_batch)
            windows = [self.plan.read(pack, start, stop) for pack in packs]
            tokens, positions, labels = (
                torch.stack([torch.as_tensor(getattr(w, name)) for w in windows]).to(device)
                for name in ("tokens", "positions", "labels")
            )
            groups = [self.plan.groups(pack) for pack in packs]
            yield Batch(
                tokens=tokens,
                positions=positions,
                labels=labels,
                lengths=group_lengths(groups, start, stop).to(device),
                groups=groups,
            )


def group_lengths(groups: Groups, start: int, stop: int) -> Tensor:
    """Return for each token in [start, stop) of each row how many tokens its group has, [B, stop - start]."""
    rows = []
    for spans in groups:
        sizes = torch.tensor([end - begin for begin, end in spans])
        rows.append(sizes.repeat_interleave(sizes)[start:stop])
    return torch.stack(rows)
