"""Which files do the paths of a recipe name, what are they called on every machine, and how are their bytes
had, wherever they lie?"""

from __future__ import annotations

import glob
import importlib.util
import io
import mmap
import os
import stat
import sysconfig
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path, PurePath, PurePosixPath
from typing import Any, BinaryIO, cast

import numpy as np
import pyarrow as pa
from fsspec.core import url_to_fs

from ..errors import DataError
from .source import Input

PYTHON = "python:"
HIDDEN = (".*",)
CHANGES_WITH = ("ETag", "etag", "LastModified", "last_modified", "mtime", "created")
"""What file systems call that by which a changed file is known, the surest first."""
BUFFER = 1 << 20
COMPRESSIONS = {".gz": "gzip", ".zst": "zstd", ".zstd": "zstd"}


def list_inputs(
    paths: Sequence[str], *, where: str, suffixes: Sequence[str], exclude: Sequence[str] = HIDDEN
) -> list[Input]:
    """Give every file in the order of the paths, sorted inside each; a DataError where a path names none.

    From folders files with these suffixes, or so named, are taken, globs and single files as they are. A name
    starts with the folder's own name and never with its place on this machine, since selection hashes it.
    """
    if missing := missing_of(paths, where):
        raise DataError("\n".join(missing))
    inputs: dict[str, Input] = {}
    seen: set[str] = set()
    for entry in paths:
        listed = list((_remote if _is_url(entry) else _local)(entry, where, suffixes, exclude))
        for input, identity in listed:
            if identity in seen:
                continue
            if input.name in inputs:
                raise DataError(
                    f"{where}.paths: every file must have its own name, got {input.name} twice; "
                    "rename a folder"
                )
            seen.add(identity)
            inputs[input.name] = input
        if not listed:
            raise DataError(
                f"{where}.paths: every path must hold files that are read (of a folder: "
                f"{', '.join(suffixes)}, without {', '.join(exclude) or 'exception'}), got none in {entry}; "
                "check the path, suffixes and exclude"
            )
    return list(inputs.values())


def missing_of(paths: Sequence[str], where: str) -> list[str]:
    """Say of each path that names nothing on this machine so; URLs are found to be there when they are
    listed."""
    problems = []
    for entry in paths:
        if entry.startswith(PYTHON):
            if _python_folder(label := entry.removeprefix(PYTHON)) is None:
                problems.append(
                    f"{where}.paths: {entry} must be installed here, got no such package; pip install {label}"
                )
        elif not _is_url(entry):
            path = _local_path(entry)
            if not path.exists() and not glob.glob(str(path), recursive=True):
                problems.append(_nothing_there(entry, where))
    return problems


def compression(name: str) -> str | None:
    """Name the compression that a file's suffix promises."""
    return next((codec for suffix, codec in COMPRESSIONS.items() if name.endswith(suffix)), None)


@contextmanager
def opened(url: str, codec: str | None = None) -> Iterator[BinaryIO]:
    """Open a file for buffered reading, decompressed; one that is not there is a DataError."""
    with _raw(url) as file:
        if codec is None:
            yield file
        else:
            stream = pa.CompressedInputStream(pa.PythonFile(file, "r"), codec)
            yield cast(BinaryIO, io.BufferedReader(cast(io.RawIOBase, stream), BUFFER))


def content(url: str) -> np.ndarray:
    """Give a file's bytes as uint8, memory-mapped where it lies on this machine."""
    with _raw(url) as file:
        if _is_url(url):
            return np.frombuffer(file.read(), np.uint8)
        if not file.seek(0, io.SEEK_END):
            return np.zeros(0, np.uint8)
        return np.frombuffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), np.uint8)


def beside(url: str, name: str) -> str:
    """Give the place of a file by its path from the same folder."""
    folder, slash, _ = url.rpartition("/")
    return f"{folder}{slash}{name}"


def size_and_stamp(url: str) -> tuple[int, str] | None:
    """Give a file's bytes and what changes with it; None where there is none."""
    try:
        if not _is_url(url):
            facts = os.stat(os.path.expanduser(url.removeprefix("file://")))
            return (facts.st_size, str(facts.st_mtime_ns)) if stat.S_ISREG(facts.st_mode) else None
        files, path = url_to_fs(url)
        info = files.info(path)
    except OSError:
        return None
    return (info.get("size") or 0, _stamp(info)) if info["type"] == "file" else None


def _local(
    entry: str, where: str, suffixes: Sequence[str], exclude: Sequence[str]
) -> Iterator[tuple[Input, str]]:
    if entry.startswith(PYTHON):
        label = entry.removeprefix(PYTHON)
        root = cast(Path, _python_folder(label))
    else:
        root = _local_path(entry)
        label = root.resolve().name
    if root.is_dir():
        named = [(f"{label}/{below.as_posix()}", root / below) for below in _walk(root, suffixes, exclude)]
    elif root.is_file():
        named = [(label, root)]
    else:
        fixed = Path(_fixed_folder(str(root)) or root.anchor)
        matches = sorted(Path(match) for match in glob.glob(str(root), recursive=True))
        named = [
            (f"{fixed.resolve().name}/{path.relative_to(fixed).as_posix()}", path)
            for path in matches
            if path.is_file() and not _excluded(path.relative_to(fixed), exclude)
        ]
    for name, path in named:
        facts = path.stat()
        input = Input(name=name, url=str(path), size=facts.st_size, stamp=str(facts.st_mtime_ns))
        yield input, str(path.resolve())


def _walk(root: Path, suffixes: Sequence[str], exclude: Sequence[str]) -> list[Path]:
    paths: list[Path] = []
    for place, folders, names in os.walk(root):
        below = Path(place).relative_to(root)
        folders[:] = [name for name in folders if not _excluded(below / name, exclude)]
        paths += [below / name for name in names if _taken(name, suffixes)]
    return [path for path in sorted(paths) if not _excluded(path, exclude) and (root / path).is_file()]


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
            fixed = _fixed_folder(root)
    except (ImportError, ValueError, OSError) as error:
        raise DataError(
            f"{where}.paths: must be readable from here, got {entry}: {error}; "
            "install what the protocol needs and check the path and your access"
        ) from error
    if not infos:
        raise DataError(_nothing_there(entry, where))
    label = fixed.rpartition("/")[2]
    for path, info in sorted(infos.items(), key=lambda item: item[0].split("/")):
        below = PurePosixPath(path.removeprefix(fixed).strip("/"))
        asked = kind == "file" or (kind == "directory" and _taken(below.name, suffixes)) or not kind
        if info["type"] != "file" or not asked or (kind != "file" and _excluded(below, exclude)):
            continue
        url = files.unstrip_protocol(path)
        name = str(below) if kind == "file" or not label else f"{label}/{below}"
        yield Input(name=name, url=url, size=info.get("size") or 0, stamp=_stamp(info)), url


def _kind(files: Any, root: str) -> str | None:
    try:
        return files.info(root)["type"]
    except FileNotFoundError:
        return None


def _taken(name: str, suffixes: Sequence[str]) -> bool:
    path = PurePosixPath(name)
    return bool({path.suffix, "".join(path.suffixes[-2:]), name} & set(suffixes))


def _excluded(below: PurePath, patterns: Sequence[str]) -> bool:
    names = (below.as_posix(), *below.parts)
    return any(fnmatchcase(name, pattern) for pattern in patterns for name in names)


def _fixed_folder(pattern: str) -> str:
    """Give the longest leading folder of a glob that holds no wildcard."""
    while glob.has_magic(pattern):
        pattern = pattern.rpartition("/")[0]
    return pattern


def _local_path(entry: str) -> Path:
    return Path(entry.removeprefix("file://")).expanduser()


def _python_folder(name: str) -> Path | None:
    """Find the interpreter's library or an installed package; None where there is none."""
    if name == "stdlib":
        return Path(sysconfig.get_path("stdlib"))
    spec = importlib.util.find_spec(name) if name.isidentifier() else None
    if spec is None:
        return None
    if spec.submodule_search_locations:
        return Path(next(iter(spec.submodule_search_locations)))
    return Path(str(spec.origin))


def _nothing_there(entry: str, where: str) -> str:
    return f"{where}.paths: must be an existing file, folder or glob, got {entry}; check the path"


def _raw(url: str) -> BinaryIO:
    try:
        if not _is_url(url):
            return open(url.removeprefix("file://"), "rb", buffering=BUFFER)
        files, path = url_to_fs(url)
        return cast(BinaryIO, io.BufferedReader(files.open(path, "rb"), BUFFER))
    except OSError as error:
        raise DataError(
            f"{url}: must be readable, got {error.strerror or error}; check that it is still there"
        ) from error


def _is_url(entry: str) -> bool:
    """Decide whether fsspec reads it; `file://` lies on this machine and does not need it."""
    return "://" in entry and not entry.startswith("file://")


def _stamp(info: dict[str, Any]) -> str:
    """Give what of a remote file's facts changes with it."""
    return next((str(info[key]) for key in CHANGES_WITH if info.get(key)), "")
