"""Attention over a pack whose tokens are spread over ranks (all-to-all, DeepSpeed-Ulysses 2309.14509).

Every rank holds a span of tokens for all heads; one all-to-all gives it the whole pack for some heads,
the kernel runs there, and a second all-to-all brings the tokens back. Queries and keys arrive rotated,
so no rank ever needs another rank's positions; a scheme of bands turns them itself, as a kernel.
"""

from dataclasses import dataclass, field
from functools import partial

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed._functional_collectives import all_to_all_single_autograd, wait_tensor

from .kernels import Groups, Kernel


@dataclass(kw_only=True)
class GroupedAttention:
    """Attend inside the groups of one micro-batch; passed to the model as the forward keyword `attend`.

    `layers` counts how often each layer came through, so that a step can assert that none was bypassed.
    """

    groups: Groups
    kernel: Kernel
    sequence_group: dist.ProcessGroup | None = None
    layers: dict[int, int] = field(default_factory=dict)

    def __call__(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        *,
        scaling: float,
        layer: int,
        window: int | None = None,
        kernel: Kernel | None = None,
    ) -> Tensor:
        """Map query [B, Hq, S, D] and key, value [B, Hkv, S, D] of this rank's span to [B, S, Hq, D].

        `window` is that of a layer with a sliding one, tokens; `kernel` that of a layer which needs its own.
        """
        self.layers[layer] = self.layers.get(layer, 0) + 1
        more = {} if window is None else {"window": window}
        run = partial(kernel or self.kernel, groups=self.groups, scale=scaling, **more)
        if self.sequence_group is None:
            return run(query, key, value).transpose(1, 2)
        ranks = self.sequence_group.size()
        query, key, value = tokens_to_heads(query, key, value, self.sequence_group, ranks)
        return heads_to_tokens(run(query, key, value), self.sequence_group, ranks)


def tokens_to_heads(
    query: Tensor, key: Tensor, value: Tensor, group: dist.ProcessGroup, ranks: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Trade [B, H, S / ranks, D] for [B, H / ranks, S, D], queries, keys and values in one message.

    Where there are fewer kv heads than ranks each is sent to the ranks whose query heads use it.
    """
    batch, _, span, width = query.shape
    copies = max(1, ranks // key.shape[1])
    key, value = (x.repeat_interleave(copies, 1) if copies > 1 else x for x in (key, value))
    # [B, H, S, D] -> [ranks, B, H / ranks, S, D]: what goes to rank r is contiguous
    parts = [x.unflatten(1, (ranks, -1)).transpose(0, 1) for x in (query, key, value)]
    heads = [x.shape[2] for x in parts]
    received = _exchange(torch.cat(parts, 2), group, ranks)
    # [ranks, B, h, S / ranks, D] -> [B, h, S, D]: the source rank is the leading part of the token index
    whole = received.permute(1, 2, 0, 3, 4).reshape(batch, sum(heads), ranks * span, width)
    q, k, v = whole.split(heads, 1)
    return q, k, v


def heads_to_tokens(out: Tensor, group: dist.ProcessGroup, ranks: int) -> Tensor:
    """Trade [B, H / ranks, S, D] for [B, S / ranks, H, D]."""
    parts = out.unflatten(2, (ranks, -1)).permute(2, 0, 3, 1, 4)  # [ranks, B, S / ranks, h, D]
    received = _exchange(parts, group, ranks)
    return received.permute(1, 2, 0, 3, 4).flatten(2, 3)


def _exchange(parts: Tensor, group: dist.ProcessGroup, ranks: int) -> Tensor:
    """Send part r of [ranks, ...] to rank r of the group and stack what came, in rank order."""
    flat = parts.reshape(ranks, -1)
    sizes = [1] * ranks
    return wait_tensor(all_to_all_single_autograd(flat, sizes, sizes, group)).view(parts.shape)
