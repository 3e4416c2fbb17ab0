"""How does a file of ours come to disk? Whole or not at all, and read only in a format that is known."""

import contextlib
import json
import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from .errors import TrainError, shown

FORMAT = 1


def place_problems(key: str, folder: str | Path) -> Iterator[str]:
    """Say why nothing could be written into a folder, which is made where it is missing; touch nothing."""
    if not str(folder):
        yield f"{key}: must name a folder, got ''; name one"
        return
    path = Path(folder)
    there = next((place for place in (path, *path.absolute().parents) if os.path.lexists(place)), Path("/"))
    if not there.is_dir():
        yield f"{key}: must be a folder, or a place for a new one, got {path}: {there} is a file; name one"
    elif not os.access(there, os.W_OK | os.X_OK):
        yield f"{key}: must be writable, got {path}: {there} is not; change its rights or name another"


def write_bytes(path: Path, data: bytes) -> None:
    """Replace a file in one step, on disk before it gets its name: a reader sees the old one or the new.

    Its folder is made where there is none.
    """
    writing = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with writing.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        writing.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            writing.unlink()
        raise TrainError(
            f"{path}: must be writable, got {error.strerror}; free space or choose another place"
        ) from error


def write_text(path: Path, text: str) -> None:
    write_bytes(path, text.encode())


def write_json(path: Path, value: Mapping[str, Any], *, sort_keys: bool = False) -> None:
    write_text(path, strict_json(path, value, indent=2, sort_keys=sort_keys) + "\n")


def append_json(path: Path, value: Mapping[str, Any]) -> None:
    """Append a line that holds an object."""
    line = strict_json(path, value)
    with path.open("a", encoding="utf-8") as file:
        file.write(line + "\n")


def strict_json(path: str | Path, value: Any, **layout: Any) -> str:
    """Write a value as JSON for `path`; what is no number has no place in it, `NaN` is no JSON."""
    try:
        return json.dumps(value, allow_nan=False, **layout)
    except ValueError as error:
        wrong = ", ".join(f"{number} at {key}" for key, number in _not_finite(value))
        raise TrainError(
            f"{path}: every number must be finite, got {wrong or error}; it was not written, find out where "
            "that number came from"
        ) from error


def _not_finite(value: Any, key: str = "") -> Iterator[tuple[str, float]]:
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _not_finite(inner, f"{key}.{name}" if key else str(name))
    elif isinstance(value, list | tuple):
        for place, inner in enumerate(value):
            yield from _not_finite(inner, f"{key}[{place}]")
    elif isinstance(value, float) and not math.isfinite(value):
        yield key, value


def read_json(path: Path) -> dict[str, Any]:
    """Read a file of ours; a format this version does not know is refused by name."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise TrainError(
            f"{path}: must be a file that can be read, got {error.strerror}; take the file of the run"
        ) from error
    except (ValueError, RecursionError) as error:
        raise TrainError(
            f"{path}: must be JSON, got {error}; take the file of the run that wrote it"
        ) from error
    if not isinstance(value, dict):
        raise TrainError(f"{path}: must hold an object, got {shown(value)}; take the file of the run")
    if value.get("format") != FORMAT:
        raise TrainError(
            f"{path}: format must be {FORMAT}, got {value.get('format')!r}; "
            "read it with the ropewalk that wrote it"
        )
    return value
