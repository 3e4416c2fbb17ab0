"""Attention written out: full scores under a boolean mask, slow and obvious; a kernel for whole packs."""

import torch
from torch import Tensor

from ropewalk.train.attention.tiles import Groups


def written_out(
    query: Tensor, key: Tensor, value: Tensor, groups: Groups, scale: float, window: int | None = None
) -> Tensor:
    """Map query [B, Hq, S, D], key and value [B, Hkv, S, D] of whole packs to [B, Hq, S, D]."""
    ids = torch.zeros(query.shape[0], query.shape[2], dtype=torch.long)
    for row, spans in enumerate(groups):
        for number, (start, stop) in enumerate(spans):
            ids[row, start:stop] = number
    mask = (ids[:, :, None] == ids[:, None, :]).tril().triu(1 - (window or query.shape[2]))[:, None]
    ratio = query.shape[1] // key.shape[1]
    scores = query @ key.repeat_interleave(ratio, 1).mT * scale
    return scores.masked_fill(~mask, float("-inf")).softmax(-1) @ value.repeat_interleave(ratio, 1)
