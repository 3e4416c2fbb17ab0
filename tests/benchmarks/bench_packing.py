"""Packing a million documents at any length, beside first-fit decreasing with a segment tree over the bins.

    python tests/benchmarks/bench_packing.py [--documents 1000000] [--peer] [--record FILE]

Lengths are log-normal with a heavy tail. `fit` is choosing packs, `tables` all that a plan's two tables need.
Memory is what the process's peak rises by. Every row runs in a process of its own.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from ropewalk.data.packing.fit import best_fit, pack
from ropewalk.data.packing.tables import Items, Scope, tables

SIZES = (1 << 16, 100_003, 1 << 22)


def documents(count: int) -> np.ndarray:
    """Give int64 lengths: half below 1,800 tokens, one in a thousand above 850,000."""
    return np.random.default_rng(0).lognormal(7.5, 2, count).astype(np.int64).clip(1)


def fit(lengths: np.ndarray, size: int) -> int:
    return pack(lengths, size, fit="best-fit", rng=np.random.default_rng(0)).packs


def make_tables(lengths: np.ndarray, size: int) -> int:
    items = Items.whole(np.arange(len(lengths)), lengths)
    return len(tables([(items, Scope())], size, reach=size)[1])


def first_fit(lengths: np.ndarray, size: int) -> int:
    """Put each length, longest first, into the first bin that holds it; a tree keeps the most room of each
    half. Full packs of long documents are taken off before, as ours are."""
    rests = lengths % size
    full = int((lengths // size).sum())
    rests = np.sort(rests[rests > 0])[::-1]
    width = 1 << int(np.ceil(np.log2(2 * rests.sum() / size + 2)))
    room = [size] * (2 * width)
    used = 0
    for length in rests.tolist():
        at = 1
        while at < width:
            at = 2 * at if room[2 * at] >= length else 2 * at + 1
        room[at] -= length
        used = max(used, at - width + 1)
        while at > 1:
            at //= 2
            room[at] = max(room[2 * at], room[2 * at + 1])
    return full + used


CONTESTANTS: dict[str, Callable[[np.ndarray, int], int]] = {
    "fit": fit,
    "tables": make_tables,
    "first-fit tree": first_fit,
}


def measure(name: str, count: int, size: int) -> dict[str, Any]:
    """Run one contestant and say its time, memory and padding."""
    lengths = documents(count)
    best_fit(lengths[:1000].clip(1, size), size)  # imports and caches
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.perf_counter()
    packs = CONTESTANTS[name](lengths, size)
    seconds = time.perf_counter() - began
    rise = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1e6
    least = -(-int(lengths.sum()) // size)
    return {
        "name": name,
        "documents": count,
        "size": size,
        "seconds": seconds,
        "gigabytes": rise,
        "packs": packs,
        "least_packs": least,
        "padding": 1 - int(lengths.sum()) / (packs * size),
    }


def run(count: int, *, peer: bool) -> list[dict[str, Any]]:
    rows = []
    for size in SIZES:
        for name in CONTESTANTS:
            if name == "first-fit tree" and not peer:
                continue
            with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
                row = pool.submit(measure, name, count, size).result()
            sys.stdout.write(
                f"{row['name']:14} {size:9,} tokens a pack: {row['seconds']:6.2f} s, "
                f"{row['gigabytes']:.2f} GB, {row['packs']:,} packs (at least {row['least_packs']:,}), "
                f"padding {row['padding']:.1e}\n"
            )
            sys.stdout.flush()
            rows.append(row)
    return rows


def bench_packing() -> None:
    sys.stdout.write("\n")
    run(1_000_000, peer=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--documents", type=int, default=1_000_000)
    parser.add_argument("--peer", action="store_true", help="also run first-fit decreasing")
    parser.add_argument("--record", type=Path, metavar="FILE")
    asked = parser.parse_args()
    rows = run(asked.documents, peer=asked.peer)
    if asked.record:
        command = " ".join(["python", "tests/benchmarks/bench_packing.py", *sys.argv[1:]])
        told = {"date": f"{datetime.now(UTC):%Y-%m-%d %H:%M UTC}", "command": command, "rows": rows}
        asked.record.write_text(json.dumps(told, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
