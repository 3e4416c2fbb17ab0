"""Opening a plan of 1e12 tokens, reading anywhere in it, and how fast ranks are fed.

    python tests/benchmarks/bench_loader.py [--packs 1000000] [--record FILE]

The large plan has a million packs of 2**20 tokens on a million documents, whose index is real and whose
tokens share one part of the store. The rate is what one process reads through `Batches.read`, over a plan
of short documents. Mapped bytes are whole folios of the page cache, of up to 2 MiB: the kernel rounds up.
"""

from __future__ import annotations

import argparse
import json
import mmap
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from ropewalk.data import open_plan
from ropewalk.data.corpus.manifest import write_manifest
from ropewalk.data.corpus.store import INDEX, Row, write_part
from ropewalk.data.packing.tables import Items, Scope, tables
from ropewalk.train import Layout
from ropewalk.train.batch import Batches

LONG = 1 << 20
CONSUMED = 2_100
"""Tokens a second that the default recipe trains on two CPU cores."""


def write_store(folder: Path, lengths: np.ndarray, pack: int) -> Path:
    """Write a store of documents of these lengths, all within one part's tokens, and a plan of them."""
    corpus, plan = folder / "corpus", folder / "plans" / "plan"
    (corpus / "parts").mkdir(parents=True)
    plan.mkdir(parents=True)
    sizes, row = np.unique(lengths, return_inverse=True)
    with write_part(corpus / "parts" / "0.arrow") as writer:
        for number, size in enumerate(sizes.tolist()):
            tokens = np.random.default_rng(number).integers(1000, size=size).astype(np.uint32)
            writer.add(Row(tokens=tokens, source="s", id=str(number)))
    for split, count in (("train", len(lengths)), ("heldout", 0)):
        path = str(corpus / f"{split}.arrow")
        with pa.OSFile(path, "wb") as sink, pa.ipc.new_file(sink, INDEX) as file:
            for batch in index(row[:count], lengths[:count]):
                file.write_batch(batch)
    facts = {"identity": {}, "inputs": {}, "fingerprint": "c", "parts": ["0.arrow"]}
    write_manifest(corpus, "corpus", facts)
    with write_part(plan / "made.arrow"):
        pass
    items = Items.whole(np.arange(len(lengths)), lengths)
    for name, table in zip(("segments", "packs"), tables([(items, Scope())], pack, reach=pack), strict=True):
        np.save(plan / f"{name}.npy", table)
    told = {"length": pack, "reach": pack, "fingerprint": "p", "corpus_fingerprint": "c", "padding": 0}
    write_manifest(plan, "plan", told | {"spec": {"sources": {}}, "corpus": {"identity": {}, "inputs": {}}})
    return plan


def index(rows: np.ndarray, lengths: np.ndarray, batch: int = 65536) -> Iterator[pa.RecordBatch]:
    for first in range(0, len(rows), batch):
        own = slice(first, min(first + batch, len(rows)))
        count = own.stop - own.start
        values: dict[str, Any] = {
            "source": ["s"] * count,
            "id": [f"d{n}" for n in range(own.start, own.stop)],
            "part": np.zeros(count, np.int32),
            "row": rows[own].astype(np.int64),
            "length": lengths[own],
            "bytes": lengths[own],
            "input": [""] * count,
            "span_start": np.zeros(count, np.int64),
            "span_stop": lengths[own],
            "key": np.arange(count, dtype=np.uint64),
        }
        yield pa.RecordBatch.from_arrays(
            [pa.array(values[field.name], field.type) for field in INDEX], schema=INDEX
        )


def forget(folder: Path) -> None:
    """Ask the kernel to drop the folder's files from its cache."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def resident(path: Path) -> int:
    """Count the bytes of a file's pages that are mapped by this process."""
    total, inside = 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if "-" in line.split(" ")[0]:
            inside = line.endswith(str(path))
        elif inside and line.startswith("Rss:"):
            total += int(line.split()[1]) * 1024
    return total


def opening(folder: Path, packs: int) -> dict[str, Any]:
    """Open a plan of packs of 2**20 tokens with cold files, and read one token far inside, then spans."""
    plan = write_store(folder, np.full(packs, LONG), LONG)
    forget(folder)
    began = time.perf_counter()
    opened = open_plan(plan)
    seconds = {"open": time.perf_counter() - began}
    began = time.perf_counter()
    opened.read(packs - 7, LONG // 3, LONG // 3 + 1)
    seconds["first_read"] = time.perf_counter() - began
    draws = np.random.default_rng(0).integers([packs, LONG - 4096], size=(200, 2)).tolist()
    began = time.perf_counter()
    for index_, start in draws:
        opened.read(index_, start, start + 4096)
    seconds["read_4096"] = (time.perf_counter() - began) / len(draws)
    return {"tokens": packs * LONG, "seconds": seconds}


def span_bytes(folder: Path) -> dict[str, Any]:
    """Count what reading an eighth of a pack maps of the tokens' file."""
    plan = open_plan(write_store(folder, np.full(16, LONG), LONG))
    part = folder / "corpus" / "parts" / "0.arrow"
    plan.read(3, 0, 1)
    before = resident(part)
    plan.read(3, LONG // 2, LONG // 2 + LONG // 8)
    return {"span_bytes": 4 * LONG // 8, "mapped_bytes": resident(part) - before, "page": mmap.PAGESIZE}


def feeding(folder: Path, *, sequence: int) -> dict[str, Any]:
    """Read short documents in packs of 4,096 tokens as a rank does."""
    lengths = np.random.default_rng(0).lognormal(6, 1.5, 20_000).astype(np.int64).clip(1, 60_000)
    plan = open_plan(write_store(folder, lengths, 4096))
    layout = Layout(world=sequence, heads=sequence)
    batches = Batches(plan=plan, layout=layout, packs_per_step=16, micro_batch=4)
    steps = min(len(plan) // 16, 100)
    began = time.perf_counter()
    tokens = sum(
        batch.tokens.numel()
        for step in range(steps)
        for packs in batches.micro_batches(step, 0)
        for batch in [batches.read(packs, layout.spans(0, 0, plan.length), torch.device("cpu"))]
    )
    rate = tokens * sequence / (time.perf_counter() - began)
    return {"sequence": sequence, "tokens_per_second": rate, "times_consumed": rate / CONSUMED}


def run(packs: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        told: dict[str, Any] = {"opening": opening(home / "large", packs)}
        seconds = told["opening"]["seconds"]
        sys.stdout.write(
            f"plan of {told['opening']['tokens']:.1e} tokens: opened in {seconds['open']:.3f} s, first token "
            f"in {seconds['first_read']:.3f} s, a span of 4,096 in {seconds['read_4096'] * 1e3:.2f} ms\n"
        )
        told["span"] = span_bytes(home / "span")
        sys.stdout.write("a span of {span_bytes:,} bytes maps {mapped_bytes:,}\n".format(**told["span"]))
        told["feeding"] = [feeding(home / f"feed-{n}", sequence=n) for n in (1, 4)]
        for row in told["feeding"]:
            sys.stdout.write(
                f"sequence {row['sequence']}: {row['tokens_per_second']:,.0f} tokens/s, "
                f"{row['times_consumed']:,.0f} x what the default recipe trains\n"
            )
    return told


def bench_loader() -> None:
    sys.stdout.write("\n")
    run(1_000_000)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--packs", type=int, default=1_000_000)
    parser.add_argument("--record", type=Path, metavar="FILE")
    asked = parser.parse_args()
    told = run(asked.packs)
    if asked.record:
        command = " ".join(["python", "tests/benchmarks/bench_loader.py", *sys.argv[1:]])
        about = {"date": f"{datetime.now(UTC):%Y-%m-%d %H:%M UTC}", "command": command}
        asked.record.write_text(json.dumps(about | told, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
