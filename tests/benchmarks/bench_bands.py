"""Attention schemes on CPU, prefill and a decoding step, beside torch's causal attention on turned q and k.

    make bench

Both sides turn q and k, and in decoding the whole cache, as every scheme of ours does. Prints ratios of times
from one run; absolute times depend on the machine.
"""

import itertools
import sys
import time
from collections.abc import Callable
from functools import partial

import torch
from torch.nn.functional import scaled_dot_product_attention

from ropewalk.rope import Base, Table, make_scheme, rotate, rotation_table
from ropewalk.rope.bands import BandedAttention

QUERY_HEADS, KV_HEADS, WIDTH, ORIGINAL = 8, 2, 64, 2048


def seconds(step: Callable[[], object], repeats: int = 2) -> float:
    """Return the least time of a few runs, after one that warms up."""
    times = []
    for _ in range(repeats + 1):
        began = time.perf_counter()
        step()
        times.append(time.perf_counter() - began)
    return min(times[1:])


def make_attention(name: str, length: int) -> BandedAttention:
    base = Base(
        head_dim=WIDTH,
        rotary_dim=WIDTH,
        theta=10000.0,
        original_length=ORIGINAL,
        trained_length=ORIGINAL,
        query_heads=QUERY_HEADS,
        kv_heads=KV_HEADS,
        current=make_scheme("default"),
    )
    scheme = make_scheme(name)
    frequencies = scheme.frequencies(base, target_length=length)
    return BandedAttention(scheme, base, frequencies, target_length=length)  # pyright: ignore[reportArgumentType]


def make_plain(length: int, dtype: torch.dtype) -> Callable[..., torch.Tensor]:
    """Return causal attention that turns q and k at their own positions."""
    frequencies = make_attention("dca", length).frequencies
    table = rotation_table(torch.arange(length)[None], frequencies)

    def run(query, key, value, groups, scale):
        last = Table(table.cos[:, :, -query.shape[2] :], table.sin[:, :, -query.shape[2] :])
        query, key = rotate(query, last, dtype), rotate(key, table, dtype)
        causal = query.shape[2] > 1
        return scaled_dot_product_attention(query, key, value, is_causal=causal, scale=scale, enable_gqa=True)

    return run


@torch.no_grad()
def bench_bands_beside_plain_attention() -> None:
    sys.stdout.write(f"\n{ORIGINAL} tokens original; time / plain causal time\n")
    sys.stdout.write(f"{'scheme':12s} {'dtype':9s} {'tokens':>7s} {'prefill':>8s} {'decode':>7s}\n")
    for dtype, length in itertools.product((torch.float32, torch.bfloat16), (4096, 8192, 16384)):
        query = torch.randn(1, QUERY_HEADS, length, WIDTH, dtype=dtype)
        key, value = (torch.randn(1, KV_HEADS, length, WIDTH, dtype=dtype) for _ in range(2))
        rest = (key, value, [[(0, length)]], WIDTH**-0.5)
        plain, last = make_plain(length, dtype), query[:, :, -1:]
        whole, step = seconds(partial(plain, query, *rest)), seconds(partial(plain, last, *rest), 20)
        for name in ("self-extend", "dca"):
            ours = make_attention(name, length)
            prefill = seconds(partial(ours, query, *rest)) / whole
            decode = seconds(partial(ours, last, *rest), 20) / step
            kind = str(dtype).removeprefix("torch.")
            sys.stdout.write(f"{name:12s} {kind:9s} {length:7d} {prefill:7.2f}x {decode:6.2f}x\n")
