"""What does a training step cost? Ours beside a bare DeepSpeed loop and accelerate's Ulysses, on two ranks.

    python tests/benchmarks/bench_step.py [--lengths 2048 8192] [--repeats 3] [--only NAME] [--record FILE]

All train the same model on CPU, a thread a rank, in float32 with checkpointing by layers, AdamW and ZeRO 2.
The bare loop has no sequence parallelism: each rank steps on a pack of its own, so its tokens are twice as
many. The contestants' ranks live side by side and take their steps in turn, so that a busy machine slows all;
times are the least of the repeats, and beside those of the wall stand the CPU seconds of the busier rank,
which others on the machine hardly touch: gloo sleeps where it waits. Memory is that of one more step: the
most bytes that torch's CPU allocator had given out, over those before the step (its profiler reports every
allocation, whatever code made it), on the rank that had more. Each number has its ratio to accelerate's
beside it; ratios hold inside one run. It is no part of `make bench`.
"""

from __future__ import annotations

import argparse
import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))  # `world`, where this is run as a script

from step_loops import CONTESTANTS, RANKS, Contestant, peak, prepare, timed
from world.ranks import Pool


def measure(contestants: list[Contestant], length: int, repeats: int) -> list[dict[str, Any]]:
    """Let contestants take steps of packs of `length` in turn, then each one for its memory."""
    pools = [Pool(RANKS) for _ in contestants]
    try:
        for pool, one in zip(pools, contestants, strict=True):
            pool.run(3600, prepare, one.loop, length, one.keys(length))
            pool.run(3600, timed)
        steps = [[pool.run(3600, timed) for pool in pools] for _ in range(repeats)]
        peaks = [max(pool.run(3600, peak)) for pool in pools]
    finally:
        for pool in pools:
            pool.stop()
    told = []
    for place, one in enumerate(contestants):
        wall, computed = ([max(rank[i] for rank in row[place]) for row in steps] for i in (0, 1))
        told.append(
            {"name": one.name, "length": length, "seconds": wall, "computed_seconds": computed}
            | {"tokens_per_second": one.packs * length / min(wall)}
            | {"tokens_per_computed_second": one.packs * length / min(computed), "peak_bytes": peaks[place]}
        )
    return told


COLUMNS = ("tokens_per_second", "tokens_per_computed_second", "peak_bytes")


def table(told: list[dict[str, Any]], length: int) -> str:
    """Write the rows of a length, each number with its ratio to accelerate's, else to the first."""
    own = [row for row in told if row["length"] == length]
    base = next((row for row in own if row["name"].startswith("accelerate")), own[0])
    lines = []
    for row in own:
        wall, computed, memory = (row[column] / base[column] for column in COLUMNS)
        lines.append(
            f"{length:7,d} {row['name']:34} {row['tokens_per_second']:8,.0f} {wall:5.2f} "
            f"{row['tokens_per_computed_second']:8,.0f} {computed:5.2f} "
            f"{row['peak_bytes'] / 2**20:8,.0f} {memory:5.2f}"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--lengths", type=int, nargs="+", default=[2048, 8192])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", nargs="+", metavar="NAME", help="contestants whose names begin so")
    parser.add_argument("--record", type=Path, metavar="FILE")
    asked = parser.parse_args()
    chosen = [one for one in CONTESTANTS if not asked.only or one.name.startswith(tuple(asked.only))]
    print("tokens                                    a second       a CPU second   peak MiB")
    told: list[dict[str, Any]] = []
    for length in asked.lengths:
        told += measure(chosen, length, asked.repeats)
        print(table(told, length), flush=True)
        if asked.record:
            command = " ".join(["python", "tests/benchmarks/bench_step.py", *sys.argv[1:]])
            about = {"date": f"{datetime.now(UTC):%Y-%m-%d %H:%M UTC}", "command": command}
            asked.record.write_text(json.dumps(about | {"rows": told}, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
