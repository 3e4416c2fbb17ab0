"""Which files on this machine are a source's documents, and what do they say?"""

from __future__ import annotations

import glob
import hashlib
import importlib.util
import os
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from ..errors import DataError
from .spec import FilesReading as FilesSource

PYTHON = "python:"


@dataclass(frozen=True, kw_only=True)
class Raw:
    """One document before tokenising; `text` is None where the file was not UTF-8 and is to be skipped."""

    id: str
    text: str | None
    bytes: int
    digest: bytes


def list_files(source: FilesSource, *, where: str) -> list[tuple[str, Path]]:
    """Give (id, path) of every file in the order of the recipe's paths, sorted inside each.

    An id starts with the folder's own name and never with its place on this machine, since selection hashes
    it.
    """
    files: dict[str, Path] = {}
    seen: set[Path] = set()
    for entry in source.paths:
        for id_, path in _expand(entry, source, where):
            if path.resolve() in seen:
                continue
            if id_ in files:
                raise DataError(
                    f"{where}.paths: every file must have its own name, got {id_} twice; rename a folder"
                )
            seen.add(path.resolve())
            files[id_] = path
    return list(files.items())


def read_files(source: FilesSource, *, where: str) -> Iterator[Raw]:
    """Read each file as strict UTF-8, line ends normalised; a DataError names the file and the byte that is
    not."""
    for id_, path in list_files(source, where=where):
        content = path.read_bytes()
        digest = hashlib.sha256(content).digest()
        try:
            text = content.decode("utf-8-sig").replace("\r\n", "\n")
        except UnicodeDecodeError as error:
            if source.on_error == "raise":
                raise DataError(
                    f"{path}: must be UTF-8, got byte 0x{content[error.start]:02x} at {error.start}; "
                    f"convert it, exclude it, or set {where}.on_error: skip"
                ) from error
            text = None
        yield Raw(id=id_, text=text, bytes=len(content), digest=digest)


def _expand(entry: str, source: FilesSource, where: str) -> Iterator[tuple[str, Path]]:
    if entry.startswith(PYTHON):
        root = _python_folder(entry.removeprefix(PYTHON), where)
        label = entry.removeprefix(PYTHON)
    else:
        root = Path(entry).expanduser()
        label = root.resolve().name
    if root.is_dir():
        yield from _walk(root, label, source)
    elif root.is_file():
        yield label, root
    else:
        matches = sorted(Path(match) for match in glob.glob(str(root), recursive=True))
        if not matches:
            raise DataError(
                f"{where}.paths: must be an existing file, folder or glob, got {entry}; check the path"
            )
        fixed = _fixed_folder(root)
        for path in matches:
            relative = path.relative_to(fixed)
            if path.is_file() and not _excluded(relative, source.exclude):
                yield f"{fixed.resolve().name}/{relative.as_posix()}", path


def _walk(root: Path, label: str, source: FilesSource) -> Iterator[tuple[str, Path]]:
    found: list[Path] = []
    for place, folders, names in os.walk(root):
        below = Path(place).relative_to(root)
        folders[:] = [name for name in folders if not _excluded(below / name, source.exclude)]
        found += [below / name for name in names if Path(name).suffix in source.suffixes]
    for relative in sorted(found):
        if not _excluded(relative, source.exclude) and (root / relative).is_file():
            yield f"{label}/{relative.as_posix()}", root / relative


def _excluded(relative: Path, patterns: tuple[str, ...]) -> bool:
    names = (relative.as_posix(), *relative.parts)
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
