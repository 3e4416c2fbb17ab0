"""Is what lies in a store still what was written? Every byte of it is read and hashed again."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Literal

from ..errors import DataError
from .manifest import CHECKSUM, MANIFEST, file_hash, fingerprint, read_manifest, restamped
from .work import Progress


def check_store(folder: str | Path, progress: Progress | None = None) -> int:
    """Check a corpus and all plans on it, and give the number of files that were read; a DataError names all
    that are not what was written."""
    folder, broken, files = Path(folder), list[str](), 0
    plans = sorted(path for path in folder.glob("plans/*") if not path.name.startswith("."))
    for below in (folder / "corpus", *plans):
        try:
            files += check_folder(below, "plan" if below in plans else "corpus", progress)
        except DataError as error:
            broken.append(str(error))
    if broken:
        raise DataError("\n".join(broken))
    return files


def check_folder(folder: Path, kind: Literal["corpus", "plan"], progress: Progress | None = None) -> int:
    """Give the number of files that were read; a DataError names every one that is not what it was."""
    manifest = read_manifest(folder, kind)
    whole = fingerprint({key: value for key, value in manifest.items() if key != CHECKSUM})
    if whole != manifest.get(CHECKSUM):
        raise DataError(_said(folder / MANIFEST, str(manifest.get(CHECKSUM)), whole))
    broken = []
    for number, (name, wanted) in enumerate(manifest["files"].items(), start=1):
        path = folder / name
        digest = file_hash(path) if path.exists() else "no file"
        if digest != wanted:
            broken.append(_said(path, wanted, digest))
        if progress:
            progress(f"check the {kind} (files)", number, len(manifest["files"]))
    if broken:
        raise DataError("\n".join(broken))
    for name in restamped(folder, manifest):  # what was only copied is as it was written
        with suppress(OSError):
            os.utime(folder / name, (manifest["stamps"][name][1],) * 2)
    return len(manifest["files"]) + 1


def _said(path: Path, wanted: str, digest: str) -> str:
    return (
        f"{path}: must have the sha256 that it was written with, {wanted[:12]}, got {digest[:12]}; "
        f"delete {path.parent if path.parent.name != 'parts' else path.parent.parent} and prepare again"
    )
