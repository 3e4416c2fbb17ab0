"""Which files do the paths of a recipe name, and what are they called on every machine?"""

from __future__ import annotations

import glob
import importlib.util
import os
import sysconfig
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import Any

from fsspec.core import url_to_fs

from ..errors import DataError
from .source import Input

PYTHON = "python:"
HIDDEN = (".*",)
CHANGES_WITH = ("ETag", "etag", "LastModified", "last_modified", "mtime", "created")
"""What file systems call that by which a changed file is known, the surest first."""


def list_inputs(
    paths: Sequence[str], *, where: str, suffixes: Sequence[str], exclude: Sequence[str] = HIDDEN
) -> list[Input]:
    """Give every file in the order of the paths, sorted inside each; a DataError where a path names none.

    From folders files with these suffixes, or so named, are taken, globs and single files as they are. A name
    starts with the folder's own name and never with its place on this machine, since selection hashes it.
    """
    inputs: dict[str, Input] = {}
    seen: set[str] = set()
    for entry in paths:
        found = _remote(entry, where, suffixes, exclude) if is_url(entry) else _local(
            entry, where, suffixes, exclude
        )  # fmt: skip
        empty = True
        for input, identity in found:
            empty = False
            if identity in seen:
                continue
            if input.name in inputs:
                raise DataError(
                    f"{where}.paths: every file must have its own name, got {input.name} twice; "
                    "rename a folder"
                )
            seen.add(identity)
            inputs[input.name] = input
        if empty:
            raise DataError(
                f"{where}.paths: every path must hold files that are read (of a folder: "
                f"{', '.join(suffixes)}, without {', '.join(exclude) or 'exception'}), got none in {entry}; "
                "check the path, suffixes and exclude"
            )
    return list(inputs.values())


def is_url(entry: str) -> bool:
    """Decide whether fsspec reads it; `file://` lies on this machine and does not need it."""
    return "://" in entry and not entry.startswith("file://")


def stamp_of(info: dict[str, Any]) -> str:
    """Give what of a remote file's facts changes with it."""
    return next((str(info[key]) for key in CHANGES_WITH if info.get(key)), "")


def _local(
    entry: str, where: str, suffixes: Sequence[str], exclude: Sequence[str]
) -> Iterator[tuple[Input, str]]:
    if entry.startswith(PYTHON):
        root = _python_folder(entry.removeprefix(PYTHON), where)
        label = entry.removeprefix(PYTHON)
    else:
        root = Path(entry.removeprefix("file://")).expanduser()
        label = root.resolve().name
    if root.is_dir():
        found = [
            (f"{label}/{below.as_posix()}", root / below) for below in _walk(root, suffixes, exclude)
        ]  # fmt: skip
    elif root.is_file():
        found = [(label, root)]
    else:
        matches = sorted(Path(match) for match in glob.glob(str(root), recursive=True))
        if not matches:
            raise _nothing_there(entry, where)
        fixed = _fixed_folder(root)
        below = [path.relative_to(fixed) for path in matches if path.is_file()]
        found = [
            (f"{fixed.resolve().name}/{path.as_posix()}", fixed / path)
            for path in below
            if not _excluded(PurePosixPath(path), exclude)
        ]
    for name, path in found:
        facts = path.stat()
        input = Input(name=name, url=str(path), size=facts.st_size, stamp=str(facts.st_mtime_ns))
        yield input, str(path.resolve())


def _walk(root: Path, suffixes: Sequence[str], exclude: Sequence[str]) -> Iterator[Path]:
    found: list[Path] = []
    for place, folders, names in os.walk(root):
        below = Path(place).relative_to(root)
        folders[:] = [name for name in folders if not _excluded(PurePosixPath(below / name), exclude)]
        found += [below / name for name in names if _taken(name, suffixes)]
    for path in sorted(found):
        if not _excluded(PurePosixPath(path), exclude) and (root / path).is_file():
            yield path


def _remote(
    entry: str, where: str, suffixes: Sequence[str], exclude: Sequence[str]
) -> Iterator[tuple[Input, str]]:
    if "::" in entry:
        raise DataError(f"{where}.paths: a URL must be one, without ::, got {entry}; unpack it first")
    try:
        files, root = url_to_fs(entry)
        root = root.rstrip("/")
        kind = _kind(files, root)
        fixed = root
        if kind == "file":
            infos, fixed = {root: files.info(root)}, root.rpartition("/")[0]
        elif kind == "directory":
            infos = files.find(root, detail=True)
        else:
            infos = files.glob(root, detail=True) if glob.has_magic(root) else {}
            while glob.has_magic(fixed):
                fixed = fixed.rpartition("/")[0]
    except (ImportError, ValueError, OSError) as error:
        raise DataError(
            f"{where}.paths: must be readable from here, got {entry}: {error}; "
            "install what the protocol needs and check the path and your access"
        ) from error
    if not infos:
        raise _nothing_there(entry, where)
    label = fixed.rpartition("/")[2]
    for path, info in sorted(infos.items(), key=lambda item: item[0].split("/")):
        below = PurePosixPath(path.removeprefix(fixed).strip("/"))
        asked = kind == "file" or (kind == "directory" and _taken(below.name, suffixes)) or not kind
        if info["type"] != "file" or not asked or (kind != "file" and _excluded(below, exclude)):
            continue
        url = files.unstrip_protocol(path)
        name = str(below) if kind == "file" or not label else f"{label}/{below}"
        yield Input(name=name, url=url, size=info.get("size") or 0, stamp=stamp_of(info)), url


def _kind(files: Any, root: str) -> str | None:
    try:
        return files.info(root)["type"]
    except FileNotFoundError:
        return None


def _taken(name: str, suffixes: Sequence[str]) -> bool:
    path = PurePosixPath(name)
    return bool({path.suffix, "".join(path.suffixes[-2:]), name} & set(suffixes))


def _excluded(below: PurePosixPath, patterns: Sequence[str]) -> bool:
    names = (str(below), *below.parts)
    return any(fnmatchcase(name, pattern) for pattern in patterns for name in names)


def _fixed_folder(pattern: Path) -> Path:
    """Give the longest leading folder of a glob that holds no wildcard."""
    fixed = pattern
    while glob.has_magic(str(fixed)):
        fixed = fixed.parent
    return fixed


def _python_folder(name: str, where: str) -> Path:
    if name == "stdlib":
        return Path(sysconfig.get_path("stdlib"))
    spec = importlib.util.find_spec(name) if name.isidentifier() else None
    if spec is None:
        raise DataError(
            f"{where}.paths: {PYTHON}{name} must be installed here, got no such package; pip install it"
        )
    if spec.submodule_search_locations:
        return Path(next(iter(spec.submodule_search_locations)))
    return Path(str(spec.origin))


def _nothing_there(entry: str, where: str) -> DataError:
    return DataError(f"{where}.paths: must be an existing file, folder or glob, got {entry}; check the path")
