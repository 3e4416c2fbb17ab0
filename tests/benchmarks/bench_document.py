"""How much memory does one document of a gigabyte need? Peak resident memory of preparing it.

    python tests/benchmarks/bench_document.py [--megabytes 1000] [--tokenizer FOLDER] [--record FILE]

The text is source code of the standard library, over and over with another number on each line, so that no
part of it is another's copy. It is prepared by one process, whose peak is told beside that of one that
prepares a document of a kilobyte.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import sysconfig
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

TINY = Path(__file__).parents[2] / "recipes/library/assets/tiny-base"
PREPARE = """
import resource, sys
from pathlib import Path
from ropewalk.data import DataSpec, load_encoder, open_documents
from ropewalk.data.corpus.build import build_corpus
path, tokenizer, folder = sys.argv[1:]
source = {"kind": "files", "paths": [path], "weight": 1.0}
spec = DataSpec.model_validate({"sources": {"text": source}, "holdout": 0.0})
build_corpus(spec, load_encoder(tokenizer), Path(folder) / "corpus", workers=1)
documents = open_documents(folder, split="train")
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, int(documents.lengths().sum()))
"""


def main() -> None:
    """Prepare a small and a large document, each in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=1000)
    parser.add_argument("--tokenizer", type=Path, default=TINY)
    parser.add_argument("--record", type=Path, metavar="FILE")
    asked = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for size in (1_000, asked.megabytes * 1_000_000):
            path = Path(folder) / f"{size}.txt"
            write_text(path, size)
            written = path.stat().st_size
            began = time.perf_counter()
            command = [sys.executable, "-c", PREPARE, str(path), str(asked.tokenizer), f"{folder}/{size}"]
            told = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.split()
            seconds = time.perf_counter() - began
            peak, tokens = int(told[0]) * 1024, int(told[1])
            rows.append({"bytes": written, "tokens": tokens, "peak_bytes": peak, "seconds": seconds})
            print(
                f"{written:13,} bytes, {tokens:11,} tokens: peak {peak / 1e9:.3f} GB, {seconds:.0f} s",
                flush=True,
            )
    if asked.record:
        about = {"date": f"{datetime.now(UTC):%Y-%m-%d %H:%M UTC}"}
        about |= {"command": " ".join(["python", "tests/benchmarks/bench_document.py", *sys.argv[1:]])}
        asked.record.write_text(json.dumps(about | {"rows": rows}, indent=1) + "\n", "utf-8")


def write_text(path: Path, size: int) -> None:
    """Write lines of source files, each with its number, until there are `size` bytes."""
    files = sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))
    written = number = 0
    with path.open("w", encoding="utf-8") as out:
        while written < size:
            for file in files:
                for line in file.read_text("utf-8").splitlines():
                    number += 1
                    written += out.write(f"{line}  # {number}\n")
                    if written >= size:
                        return


if __name__ == "__main__":
    main()
