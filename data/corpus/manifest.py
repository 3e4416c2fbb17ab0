"""How is a folder of ours written whole or not at all, named by its content, and compared field by field?"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..errors import DataError, room_to_write

FORMAT = 1
MANIFEST, CHECKSUM = "manifest.json", "checksum"


@contextmanager
def whole_or_absent(folder: Path) -> Iterator[Path]:
    """Give a temporary sibling to fill; renamed to `folder` at the end, removed where anything goes wrong."""
    with room_to_write(folder.parent):
        folder.parent.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(folder.parent)
        partial = folder.parent / f".partial-{socket.gethostname()}-{os.getpid()}-{folder.name}"
        partial.mkdir()
        try:
            yield partial
            put_in_place(partial, folder)
        finally:
            shutil.rmtree(partial, ignore_errors=True)


def put_in_place(partial: Path, folder: Path) -> None:
    """Give a finished folder its name; DataError where another process has made it meanwhile."""
    try:
        os.rename(partial, folder)
    except OSError as error:
        if not folder.exists():
            raise
        raise DataError(
            f"{folder}: must be written by one process, got another's meanwhile; run it again"
        ) from error


def write_json(path: Path, fields: Mapping[str, Any]) -> None:
    """Write a file that is whole or absent, whoever is killed."""
    writing = path.with_name(f".{path.name}-{socket.gethostname()}-{os.getpid()}")
    writing.write_text(json.dumps(fields, indent=1) + "\n", "utf-8")
    writing.replace(path)


def write_manifest(folder: Path, kind: str, fields: Mapping[str, Any]) -> None:
    """Write the manifest of a folder of ours, with a hash of itself."""
    whole = {"format": FORMAT, "kind": kind, **fields}
    write_json(folder / MANIFEST, whole | {CHECKSUM: fingerprint(json.loads(json.dumps(whole)))})


def read_manifest(folder: Path, kind: str) -> dict[str, Any]:
    """Read a manifest of ours; DataError for a missing one, another format, or another kind."""
    path = folder / MANIFEST
    if not path.exists():
        raise DataError(f"{folder}: must be a prepared {kind}, got no {MANIFEST}; run prepare")
    try:
        fields = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise DataError(f"{path}: must be JSON, got: {error}; delete {folder} and prepare again") from error
    if fields.get("format") != FORMAT:
        raise DataError(
            f"{path}: format must be {FORMAT}, got {fields.get('format')!r}; "
            "read it with the version of ropewalk that wrote it, or delete the folder and prepare again"
        )
    if fields.get("kind") != kind:
        raise DataError(f"{path}: must be a {kind}, got {fields.get('kind')!r}; give the {kind}'s folder")
    return fields


def fingerprint(fields: Any) -> str:
    """Give the sha256 over JSON-able values, independent of the order of keys."""
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()


def file_hash(path: Path) -> str:
    """Give the sha256 of a file's bytes."""
    with path.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def differences(kept: Mapping[str, Any], asked: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Name each field, dotted, in which two nested mappings differ, with both values."""
    found = []
    for key in dict.fromkeys([*kept, *asked]):
        old, new = kept.get(key), asked.get(key)
        if isinstance(old, dict) and isinstance(new, dict):
            found += differences(old, new, f"{prefix}{key}.")
        elif old != new:
            found.append(f"{prefix}{key} ({_short(old)} there, {_short(new)} asked)")
    return found


def _remove_abandoned(parent: Path) -> None:
    """Remove what processes of this machine left that were killed while writing."""
    for path in parent.glob(f".partial-{socket.gethostname()}-*"):
        pid = int(path.name.removeprefix(f".partial-{socket.gethostname()}-").split("-")[0])
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            shutil.rmtree(path, ignore_errors=True)
        except PermissionError:
            continue


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 16 else f"{text[:12]}…"
