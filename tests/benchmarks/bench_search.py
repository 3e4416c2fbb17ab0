"""What does a nat cost? Ours beside the published search of factors: same model, documents and seeds.

    python tests/benchmarks/bench_search.py tiny-512-4k-longrope --seeds 3 --ranks 2

Hours on two cores: the published search reads 27.5 million tokens a seed. Each search goes on where it
stopped, so this may be stopped and started again; `--tokens` bounds each search. The table is printed after
every search; `--record FILE` keeps it as JSON for the docs. It is no part of `make bench`.
"""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ropewalk.eval import paired_difference

ALGORITHMS = ("racing", "published")
Told = dict[str, Any]


def main() -> None:
    """Run every search that is not finished, then print what is known."""
    asked = arguments()
    told: dict[tuple[int, str], Told] = {}
    for seed in range(asked.seeds):
        for algorithm in ALGORITHMS:
            told[seed, algorithm] = run(asked, seed, algorithm)
            print("\n".join(table(told)), flush=True)
            if asked.record:
                asked.record.write_text(json.dumps(record(told), indent=1) + "\n", encoding="utf-8")


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("recipe")
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--tokens", type=int, help="most tokens of each search")
    parser.add_argument("--method", default="longrope")
    parser.add_argument("--record", type=Path, metavar="FILE", help="write what is known as JSON")
    return parser.parse_args()


def run(asked: argparse.Namespace, seed: int, algorithm: str) -> Told:
    """Run or go on with one search over all ranks, and return what it says of itself."""
    launch = ["torch.distributed.run", "--nproc-per-node", str(asked.ranks), "-m"] if asked.ranks > 1 else []
    options = ["--method", asked.method, "--algorithm", algorithm, "--seed", str(seed), "--json"]
    options += ["--tokens", str(asked.tokens)] if asked.tokens else []
    command = [sys.executable, "-m", *launch, "ropewalk.recipes.search", asked.recipe, *asked.overrides]
    done = subprocess.run([*command, *options], stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout)


def table(told: dict[tuple[int, str], Told]) -> Iterator[str]:
    """Say each search's cost and gain, and how the two compare, seed by seed."""
    yield f"\n{'seed':4} {'algorithm':9} {'tokens':>12} {'searched':>9} {'held out':>9} {'tokens a nat':>13}"
    for (seed, algorithm), found in told.items():
        own, price = found["rows"][-1], found["tokens_per_nat"]
        paid = "-" if price is None else f"{price:,.0f}"
        yield (
            f"{seed:4} {algorithm:9} {found['tokens']:12,} {own['searched']:9.4f} {own['held_out']:9.4f} "
            f"{paid:>13}  {found['verdict'].partition(';')[0]}"
        )
    for seed in sorted({seed for seed, _ in told}):
        both = [told.get((seed, algorithm)) for algorithm in ALGORITHMS]
        if all(both):
            yield from compared(seed, *both)  # pyright: ignore[reportArgumentType]


def compared(seed: int, racing: Told, published: Told) -> Iterator[str]:
    """Say when racing was as good as the published search, and which is better where neither searched."""
    goal, dear, cheap = published["rows"][-1]["searched"], published["tokens"], racing["tokens"]
    reached = tokens_to(goal, racing)
    share = "never" if reached is None else f"after {reached:,} tokens, 1/{dear / reached:.1f} of {dear:,}"
    yield f"seed {seed}: racing reaches the published search's {goal:.4f} {share}"
    if earlier := [loss for tokens, loss in published["rounds"] if tokens <= cheap]:
        yield f"seed {seed}: after racing's {cheap:,} tokens the published search is at {earlier[-1]:.4f}"
    gain = paired_difference(held_out(published), held_out(racing))
    hedge = "" if gain.distinguishable else " (not distinguishable)"
    told = f"{gain.estimate:+.4f} nats [{gain.low:+.4f}, {gain.high:+.4f}]{hedge}"
    yield f"seed {seed}: racing is better on the held-out documents by {told}"


def tokens_to(goal: float, search: Told) -> int | None:
    """Return the tokens after which a search was as good as `goal`."""
    return next((tokens for tokens, loss in search["rounds"] if loss <= goal), None)


def record(told: dict[tuple[int, str], Told]) -> Told:
    """Return what pages quote: every search, and each seed's two side by side."""
    searches = [
        {"seed": seed, "algorithm": algorithm, "tokens": found["tokens"], "verdict": found["verdict"]}
        | {key: found["rows"][-1][key] for key in ("searched", "held_out")}
        for (seed, algorithm), found in told.items()
    ]
    return {
        "date": f"{datetime.now(UTC):%Y-%m-%d %H:%M UTC}",
        "command": shlex.join(["python", "tests/benchmarks/bench_search.py", *sys.argv[1:]]),
        "about": json.loads(Path(next(iter(told.values()))["file"]).read_text())["provenance"],
        "beside": next(iter(told.values()))["rows"],
        "searches": searches,
        "seeds": list(side_by_side(told)),
    }


def side_by_side(told: dict[tuple[int, str], Told]) -> Iterator[Told]:
    """Give racing's cost and gain over the published search, for each seed that has both."""
    for seed in sorted({seed for seed, _ in told}):
        racing, published = (told.get((seed, algorithm)) for algorithm in ALGORITHMS)
        if racing and published:
            reached = tokens_to(published["rows"][-1]["searched"], racing)
            gain = paired_difference(held_out(published), held_out(racing))
            told_apart = {"low": gain.low, "high": gain.high, "distinguishable": gain.distinguishable}
            share = None if reached is None else published["tokens"] / reached
            yield {"seed": seed, "tokens": reached, "times_fewer": share, "gain": gain.estimate} | told_apart


def held_out(found: Told) -> list[float]:
    """Return the losses of the found vector, one a document not searched on."""
    return json.loads(Path(found["file"]).with_name("found.json").read_text())["losses"]["found"]


if __name__ == "__main__":
    main()
