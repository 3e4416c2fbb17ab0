"""Window and memory by arithmetic: a pack whole, in chunks, and with its store on the host, by degree.

    python tests/benchmarks/bench_memory.py

8B and 70B Llama shapes, bfloat16, ZeRO 3, checkpointing, one pack of one document a data rank; GiB a GPU
and a host of 8. `whole` has no store; chunks are 8,192 tokens a rank.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
from world.budgets import EIGHT_B, SEVENTY_B, job

from ropewalk.train.budget import Job, gpu_memory, host_memory
from ropewalk.train.budget.memory import GIB

K, M = 1024, 1024**2
DEGREES = {1: (1, 1), 8: (8, 1), 64: (8, 8), 256: (8, 32)}
HOST: dict[str, Any] = {"arithmetic": {"optimizer_on_host": True}}
GOALS = {
    "8B 128K, one 40 GB GPU, 256 GB host, optimizer on the host": job(
        128 * K, chunk=8 * K, store="host", **HOST
    ),
    "8B 4M, one 141 GB GPU, 1.9 TB, optimizer on the host": job(4 * M, chunk=32 * K, store="host", **HOST),
    "8B 4.1M, eight 80 GB GPUs, 1.9 TB": job(4_128_768, world=8, heads=8, chunk=64 * K, store="host"),
    "8B 6M, the same, bfloat16 gradients of keys": job(
        6 * M, world=8, heads=8, chunk=64 * K, store="host", arithmetic={"gradient_width": 2}
    ),
    "8B 15M, 32 80 GB GPUs, 1.9 TB a host": job(
        57 * 256 * K, world=32, heads=8, gather=4, chunk=256 * K, store="host"
    ),
    "70B 1M, 64 80 GB GPUs": job(M, world=64, heads=8, gather=8, chunk=256 * K, config=SEVENTY_B),
}


def row(name: str, asked: Job) -> str:
    gpu, host = gpu_memory(asked), host_memory(asked)
    figures = (gpu.training, gpu.loading, host.training, host.loading)
    return f"| {name} | " + " | ".join(f"{value / GIB:,.0f}" for value in figures) + " |"


def rows() -> list[str]:
    lines = ["| What | GPU | GPU, loading | host | host, loading |", "|---|---|---|---|---|"]
    lines += [row(name, asked) for name, asked in GOALS.items()]
    for degree, (heads, gather) in DEGREES.items():
        for length in (128 * K, M, 4 * M, 16 * M):
            ranks: dict[str, Any] = {"world": degree, "heads": heads, "gather": gather, "config": EIGHT_B}
            chunk = 8 * K * degree
            ways: dict[str, dict[str, Any]] = {
                "whole": {},
                "chunks": {"chunk": chunk},
                "host": {"chunk": chunk, "store": "host"},
            }
            for name, more in ways.items():
                if chunk < length:
                    lines.append(
                        row(f"8B, {length // K:,}K, sequence {degree}, {name}", job(length, **ranks, **more))
                    )
    return lines


if __name__ == "__main__":
    sys.stdout.write("\n".join(rows()) + "\n")
