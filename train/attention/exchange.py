"""Tokens and heads that change ranks: the all-to-all of a heads group, the gathering of keys and values.

In a heads group every rank holds some tokens for all heads; one all-to-all gives it all their tokens for some
heads (DeepSpeed-Ulysses, 2309.14509), and a second brings them back. In a gather group every rank holds some
tokens for the same heads; they exchange keys and values a round at a time (2-D attention, 2406.18485).
"""

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed._functional_collectives import all_to_all_single_autograd, wait_tensor

# torch 2.13 gave them these names, and warns of the old ones
_all_gather = getattr(dist, "all_gather_single", None) or dist.all_gather_into_tensor
_reduce_scatter = getattr(dist, "reduce_scatter_single", None) or dist.reduce_scatter_tensor


def tokens_to_heads(
    query: Tensor, key: Tensor, value: Tensor, group: dist.ProcessGroup
) -> tuple[Tensor, Tensor, Tensor]:
    """Trade [B, H, S / ranks, D] for [B, H / ranks, S, D], queries, keys and values in one message.

    Where there are fewer kv heads than ranks each is sent to the ranks whose query heads use it.
    """
    batch, _, span, width = query.shape
    ranks = group.size()
    copies = max(1, ranks // key.shape[1])
    key, value = (x.repeat_interleave(copies, 1) if copies > 1 else x for x in (key, value))
    # [B, H, S, D] -> [ranks, B, H / ranks, S, D]: what goes to rank r is contiguous
    parts = [x.unflatten(1, (ranks, -1)).transpose(0, 1) for x in (query, key, value)]
    heads = [x.shape[2] for x in parts]
    received = _exchange(torch.cat(parts, 2), group)
    # [ranks, B, h, S / ranks, D] -> [B, h, S, D]: the source rank is the leading part of the token index
    whole = received.permute(1, 2, 0, 3, 4).reshape(batch, sum(heads), ranks * span, width)
    q, k, v = whole.split(heads, 1)
    return q, k, v


def heads_to_tokens(out: Tensor, group: dist.ProcessGroup) -> Tensor:
    """Trade [B, H / ranks, S, D] for [B, S / ranks, H, D]."""
    parts = out.unflatten(2, (group.size(), -1)).permute(2, 0, 3, 1, 4)  # [ranks, B, S / ranks, h, D]
    received = _exchange(parts, group)
    return received.permute(1, 2, 0, 3, 4).flatten(2, 3)


def _exchange(parts: Tensor, group: dist.ProcessGroup) -> Tensor:
    """Send part r of [ranks, ...] to rank r of the group and stack what came, in rank order."""
    flat = parts.reshape(len(parts), -1)
    sizes = [1] * len(parts)
    return wait_tensor(all_to_all_single_autograd(flat, sizes, sizes, group)).view(parts.shape)


def gather_tokens(own: Tensor, group: dist.ProcessGroup, number: int) -> Tensor:
    """Trade this rank's part [2, B, H, n, D] of round `number` for the whole round, in token order."""
    parts = own.new_empty(group.size(), *own.shape)
    _all_gather(parts.flatten(0, 1), own.contiguous(), group=group)
    if number % 2:
        parts = parts.flip(0)  # that round was dealt backwards
    return parts.permute(1, 2, 3, 0, 4, 5).flatten(3, 4)


def scatter_gradients(whole: Tensor, group: dist.ProcessGroup, number: int) -> Tensor:
    """Sum gradients [2, B, H, ranks * n, D] of round `number` over the group and return this rank's part."""
    parts = whole.unflatten(3, (group.size(), -1)).permute(3, 0, 1, 2, 4, 5)
    if number % 2:
        parts = parts.flip(0)
    own = parts.new_empty(parts.shape[1:])
    _reduce_scatter(own, parts.flatten(0, 1).contiguous(), group=group)
    return own
