"""Is a store still what was written? Every byte of it is read and hashed again."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

from ..errors import DataError
from .manifest import fingerprint, read_manifest
from .parts import Part
from .store import SPLITS


def check_corpus(folder: Path, progress: Callable[[str, int, int], None] | None = None) -> int:
    """Give the number of files that were read; a DataError names every one that is not what it was."""
    manifest = read_manifest(folder, "corpus")
    hashes = manifest["hashes"]
    broken = []
    for number, (name, wanted) in enumerate(zip(manifest["parts"], hashes["parts"], strict=True), start=1):
        try:
            found = Part(folder / "parts" / name).hash()
        except DataError as error:
            broken.append(str(error))
            continue
        if found != wanted:
            broken.append(_said(folder / "parts" / name, wanted, found))
        if progress:
            progress("check (files)", number, len(manifest["parts"]))
    for split in SPLITS:
        path = folder / f"{split}.arrow"
        found = hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else "no file"
        if found != hashes[split]:
            broken.append(_said(path, hashes[split], found))
    whole = fingerprint([hashes["parts"], {split: hashes[split] for split in SPLITS}])
    if whole != manifest["fingerprint"]:
        broken.append(_said(folder / "manifest.json", manifest["fingerprint"], whole))
    if broken:
        raise DataError("\n".join(broken))
    return len(manifest["parts"]) + len(SPLITS) + 1


def _said(path: Path, wanted: str, found: str) -> str:
    return (
        f"{path}: must have the sha256 that it was written with, {wanted[:12]}, got {found[:12]}; "
        "delete the store and prepare again"
    )
