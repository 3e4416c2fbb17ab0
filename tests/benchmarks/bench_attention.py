"""Attention on CPU inside document groups, each on its own span, beside torch's SDPA under a whole mask.

    make bench

Prints a ratio of times from one run; absolute times depend on the machine.
"""

import sys
import time
from collections.abc import Callable

import torch
from torch.nn.functional import scaled_dot_product_attention

from ropewalk.train.attention.grouped import GroupedAttention
from ropewalk.train.attention.pairs import sdpa

LENGTH, HEADS, WIDTH = 4096, 8, 32


def seconds(step: Callable[[], object], repeats: int = 5) -> float:
    step()
    began = time.perf_counter()
    for _ in range(repeats):
        step()
    return (time.perf_counter() - began) / repeats


def bench_groups_beside_a_mask() -> None:
    q, k, v = (torch.randn(1, HEADS, LENGTH, WIDTH, requires_grad=True) for _ in range(3))
    for documents in (1, 4, 16):
        size = LENGTH // documents
        groups = [[(i * size, (i + 1) * size) for i in range(documents)]]
        attend = GroupedAttention(groups=groups, kernel=sdpa)
        ids = torch.arange(LENGTH) // size
        mask = (ids[:, None] == ids[None]).tril()[None, None]
        ours = seconds(lambda attend=attend: attend(q, k, v, scaling=0.2, layer=0).sum().backward())
        peer = seconds(
            lambda mask=mask: (
                scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=0.2).sum().backward()
            )
        )
        sys.stdout.write(
            f"{documents:3d} documents in {LENGTH}: {peer / ours:.1f}x the speed of a whole mask\n"
        )
