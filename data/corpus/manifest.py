"""How is a folder of ours named by its content, and compared field by field?"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import DataError
from ..whole import write_json

FORMAT = 1
MANIFEST, CHECKSUM = "manifest.json", "checksum"


def write_manifest(folder: Path, kind: str, fields: Mapping[str, Any]) -> None:
    """Write the manifest of a folder of ours, with sizes and times of its `files` and a hash of itself."""
    stamps = {name: _stamp(folder / name) for name in fields.get("files", ())}
    whole = {"format": FORMAT, "kind": kind, **fields, "stamps": stamps}
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


def restamped(folder: Path, manifest: Mapping[str, Any]) -> list[str]:
    """Name the files of a folder whose times are not those that they were written at: copied, or changed. A
    DataError names one of another size."""
    names = []
    for name, (size, time) in manifest.get("stamps", {}).items():
        path = folder / name
        now = _stamp(path) if path.exists() else [0, 0]
        if now[0] != size:
            raise DataError(
                f"{path}: must have the {size:,} bytes that it was written with, got {now[0]:,}; restore it, "
                "or delete the folder and prepare again"
            )
        if now[1] != time:
            names.append(name)
    return names


def _stamp(path: Path) -> list[int]:
    """Give a file's bytes and its time in whole seconds, which copying tools can keep."""
    facts = path.stat()
    return [facts.st_size, int(facts.st_mtime)]


def fingerprint(fields: Any) -> str:
    """Give the sha256 over JSON-able values, independent of the order of keys."""
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()


def file_hash(path: Path) -> str:
    """Give the sha256 of a file's bytes."""
    with path.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def differences(kept: Mapping[str, Any], asked: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Name each field, dotted, in which two nested mappings differ, with both values."""
    fields = []
    for key in dict.fromkeys([*kept, *asked]):
        old, new = kept.get(key), asked.get(key)
        if isinstance(old, dict) and isinstance(new, dict):
            fields += differences(old, new, f"{prefix}{key}.")
        elif old != new:
            fields.append(f"{prefix}{key} ({_short(old)} there, {_short(new)} asked)")
    return fields


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 16 else f"{text[:12]}…"
