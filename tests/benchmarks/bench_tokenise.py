"""What does preparing cost beside the bare tokenizer, datasets, TRL and datatrove? Same text, cores and ids.

    python tests/benchmarks/bench_tokenise.py [--tokenizer FOLDER] [--megabytes 64] [--record FILE]

Each contestant reads the same JSON lines (source files of the installed packages), tokenises them with two
processes, packs where it can, and leaves its result on disk. Rates are in MB of text a second, ratios from
one run. Peers that are not installed are left out (pip install trl datatrove). All ids are compared.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import os
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime
from importlib.util import find_spec
from itertools import chain
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

PROCESSES = 2
LENGTH = 8192
TINY = Path(__file__).parents[2] / "recipes/library/assets/tiny-base"


def main() -> None:
    """Run all contestants, compare their ids, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--tokenizer", type=Path, default=TINY)
    parser.add_argument("--megabytes", type=int, default=64)
    parser.add_argument("--record", type=Path, metavar="FILE")
    asked = parser.parse_args()
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        size = write_text(work / "text.jsonl", asked.megabytes * 1_000_000)
        rows = []
        for name, run in contestants():
            began = time.perf_counter()
            tokens, digest = run(asked.tokenizer, work / "text.jsonl", work / name.replace(" ", "-"))
            rows.append(
                {"name": name, "seconds": time.perf_counter() - began, "tokens": tokens, "ids": digest}
            )
            print(told(rows[-1], rows, size), flush=True)
    if asked.record:
        about = {"date": f"{datetime.now(UTC):%Y-%m-%d %H:%M UTC}", "bytes": size, "processes": PROCESSES}
        about |= {"command": " ".join(["python", "tests/benchmarks/bench_tokenise.py", *sys.argv[1:]])}
        asked.record.write_text(json.dumps(about | {"rows": rows}, indent=1) + "\n", "utf-8")


def told(row: dict[str, Any], rows: list[dict[str, Any]], size: int) -> str:
    """Say a contestant's rate, its ratio to the first, and whether its ids are the first's."""
    same = (
        "same ids" if row["ids"] == rows[0]["ids"] else f"OTHER IDS {row['tokens']:,} {rows[0]['tokens']:,}"
    )
    ratio = rows[0]["seconds"] / row["seconds"]
    rate = size / row["seconds"] / 1e6
    return f"{row['name']:44} {row['seconds']:7.1f} s {rate:6.2f} MB/s {ratio:5.2f} x the first, {same}"


def write_text(path: Path, size: int) -> int:
    """Write installed source files as JSON lines, up to `size` bytes of text; the bytes that were written."""
    written = 0
    with path.open("w", encoding="utf-8") as out:
        for file in sorted(Path(sysconfig.get_path("purelib")).rglob("*.py")):
            text = file.read_text("utf-8", errors="replace")
            if text.strip():
                out.write(json.dumps({"text": text}) + "\n")
                written += len(text.encode())
            if written >= size:
                break
    return written


def contestants() -> Iterator[tuple[str, Callable[[Path, Path, Path], tuple[int, str]]]]:
    """Give each way of preparing that is installed; the bare tokenizer comes first."""
    yield "bare tokenizers", bare_tokenizers
    yield "ropewalk, engine tokenizers, packed", lambda *paths: ropewalk(*paths, engine="tokenizers")
    yield "bare tiktoken", bare_tiktoken
    yield "ropewalk, its default engine, packed", lambda *paths: ropewalk(*paths, engine="auto")
    yield "datasets.map and group_texts, packed", group_texts
    if find_spec("trl"):
        yield "TRL pack_dataset (bfd_split), packed", trl
    if find_spec("datatrove"):
        yield "datatrove DocumentTokenizer", datatrove


def texts_of(path: Path, part: int = 0, parts: int = 1) -> list[str]:
    """Read every n-th text."""
    with path.open(encoding="utf-8") as lines:
        return [json.loads(line)["text"] for number, line in enumerate(lines) if number % parts == part]


def digest(documents: Iterator[np.ndarray]) -> tuple[int, str]:
    """Give the tokens, and a hash that does not depend on the order of documents."""
    total, mixed = 0, 0
    for tokens in documents:
        total += len(tokens)
        own = hashlib.sha256(np.ascontiguousarray(tokens, "<u4").tobytes()).digest()
        mixed ^= int.from_bytes(own, "big")
    return total, f"{mixed:064x}"


def bare(arguments: tuple[Path, Path, int, str]) -> list[np.ndarray]:
    """Tokenise a share of the texts and nothing else."""
    from ropewalk.data import load_encoder

    tokenizer, path, part, engine = arguments
    encoder = load_encoder(tokenizer, engine=engine)
    texts = texts_of(path, part, PROCESSES)
    return list(chain.from_iterable(encoder.encode(texts[i : i + 64]) for i in range(0, len(texts), 64)))


def bare_engine(tokenizer: Path, path: Path, engine: str) -> tuple[int, str]:
    with ProcessPoolExecutor(PROCESSES, mp_context=get_context("spawn")) as pool:
        jobs = [(tokenizer, path, part, engine) for part in range(PROCESSES)]
        return digest(chain.from_iterable(pool.map(bare, jobs)))


def bare_tokenizers(tokenizer: Path, path: Path, folder: Path) -> tuple[int, str]:
    return bare_engine(tokenizer, path, "tokenizers")


def bare_tiktoken(tokenizer: Path, path: Path, folder: Path) -> tuple[int, str]:
    return bare_engine(tokenizer, path, "auto")


def ropewalk(tokenizer: Path, path: Path, folder: Path, *, engine: str) -> tuple[int, str]:
    """Prepare a corpus and a plan of all of it."""
    from ropewalk.data import DataSpec, load_encoder, open_documents
    from ropewalk.data.corpus.build import build_corpus
    from ropewalk.data.prepare import write_plan

    source = {"kind": "jsonl", "paths": [str(path)], "weight": 1.0}
    size = path.stat().st_size // (4 * PROCESSES)
    spec = DataSpec.model_validate({"sources": {"text": source}, "holdout": 0.0, "part_bytes": size})
    encoder = load_encoder(tokenizer, engine=engine)
    corpus = build_corpus(spec, encoder, folder / "corpus", workers=PROCESSES)
    assert corpus is not None
    whole = spec.model_copy(update={"tokens": corpus["counts"]["train"]["tokens"]})
    write_plan(whole, encoder, corpus, folder / "plans/all", length=LENGTH, reach=LENGTH)
    documents = open_documents(folder, split="train")
    return digest(documents.tokens(row)[:-1] for row in range(len(documents)))


def tokenised(tokenizer: Path, path: Path) -> Any:
    """Tokenise with datasets, as its documentation does."""
    from datasets import disable_caching, disable_progress_bars, load_dataset
    from transformers import AutoTokenizer

    disable_caching()
    disable_progress_bars()
    fast = AutoTokenizer.from_pretrained(tokenizer)
    text = load_dataset("json", data_files=str(path), split="train", cache_dir=str(path.parent / "cache"))
    return text.map(
        lambda rows: {"input_ids": fast(rows["text"], add_special_tokens=False)["input_ids"]},
        batched=True,
        num_proc=PROCESSES,
        remove_columns=["text"],
    )


def group_texts(tokenizer: Path, path: Path, folder: Path) -> tuple[int, str]:
    """Concatenate and cut, as in the example scripts of transformers."""
    ids = tokenised(tokenizer, path)

    def group(rows: dict[str, list[list[int]]]) -> dict[str, list[list[int]]]:
        whole = list(chain.from_iterable(rows["input_ids"]))
        end = len(whole) // LENGTH * LENGTH
        return {"input_ids": [whole[i : i + LENGTH] for i in range(0, end, LENGTH)]}

    ids.map(group, batched=True, num_proc=PROCESSES).save_to_disk(folder)
    return digest(map(np.asarray, ids["input_ids"]))


def trl(tokenizer: Path, path: Path, folder: Path) -> tuple[int, str]:
    """Pack with best-fit-decreasing, a map batch at a time."""
    from trl import pack_dataset  # pyright: ignore[reportMissingImports]

    ids = tokenised(tokenizer, path)
    pack_dataset(ids, LENGTH, strategy="bfd_split", map_kwargs={"num_proc": PROCESSES}).save_to_disk(folder)
    return digest(map(np.asarray, ids["input_ids"]))


def datatrove(tokenizer: Path, path: Path, folder: Path) -> tuple[int, str]:
    """Tokenise without shuffling, a task a process; nothing is packed."""
    from datatrove.executor import LocalPipelineExecutor  # pyright: ignore[reportMissingImports]
    from datatrove.pipeline.readers import JsonlReader  # pyright: ignore[reportMissingImports]
    from datatrove.pipeline.tokens import DocumentTokenizer  # pyright: ignore[reportMissingImports]

    shares = path.parent / "shares"
    shares.mkdir()
    for part in range(PROCESSES):
        lines = (json.dumps({"text": text, "id": "0"}) + "\n" for text in texts_of(path, part, PROCESSES))
        (shares / f"{part}.jsonl").write_text("".join(lines), "utf-8")
    writer = DocumentTokenizer(
        str(folder), str(tokenizer / "tokenizer.json"), eos_token=None, shuffle_documents=False
    )
    LocalPipelineExecutor(
        pipeline=[JsonlReader(str(shares)), writer],
        tasks=PROCESSES,
        workers=PROCESSES,
        logging_dir=str(folder / "logs"),
        skip_completed=False,
    ).run()
    return digest(chain.from_iterable(stored(file) for file in sorted(folder.glob("*.ds"))))


def stored(path: Path) -> Iterator[np.ndarray]:
    """Read the documents of a datatrove file."""
    ends = np.fromfile(path.with_name(f"{path.name}.index"), "<u8").astype(np.int64)
    kind = "<u2" if path.stat().st_size == 2 * ends[-1] else "<u4"
    return iter(np.split(np.fromfile(path, kind), ends[:-1]))


if __name__ == "__main__":
    main()
