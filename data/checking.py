"""Is a store still what was written? Corpus and plans, every byte read and hashed again."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from .corpus.check import check_corpus
from .corpus.manifest import fingerprint, read_manifest
from .corpus.parts import Part
from .errors import DataError
from .plan import PACKS, SEGMENTS

Progress = Callable[[str, int, int], None]


def check_store(folder: str | Path, progress: Progress | None = None) -> int:
    """Give the number of files that were read; a DataError names all that are not what was written."""
    folder, broken, files = Path(folder), list[str](), 0
    plans = sorted(path for path in folder.glob("plans/*") if not path.name.startswith("."))
    for check in (
        partial(check_corpus, folder / "corpus", progress),
        *(partial(_plan, plan) for plan in plans),
    ):
        try:
            files += check()
        except DataError as error:
            broken.append(str(error))
    if broken:
        raise DataError("\n".join(broken))
    return files


def _plan(folder: Path) -> int:
    manifest = read_manifest(folder, "plan")
    tables = [np.load(folder / name) for name in (SEGMENTS, PACKS)]
    hashes = [hashlib.sha256(table.tobytes()).hexdigest() for table in tables]
    made = Part(folder / "made.arrow").hash()
    found = fingerprint([manifest["corpus_fingerprint"], made, manifest["length"], *hashes])
    if found != manifest["fingerprint"]:
        raise DataError(
            f"{folder}: must have the fingerprint that it was written with, {manifest['fingerprint'][:12]}, "
            f"got {found[:12]}; delete it and prepare again"
        )
    return 4
