"""Which files do the paths of a recipe name, what are they called on every machine, and what beside them is
not read?"""

from __future__ import annotations

import glob
import importlib.util
import os
import sysconfig
from collections.abc import Iterator, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path, PurePath, PurePosixPath
from typing import Any, NamedTuple, cast

from fsspec.core import url_to_fs

from ..counts import Counts
from ..errors import DataError
from .files import is_url, local_path, size_and_stamp, stamp_of, stamp_of_all
from .source import Input

PYTHON = "python:"
HIDDEN = (".*",)


class _Found(NamedTuple):
    """A file that a path led to."""

    input: Input
    identity: str
    """Where it really lies."""
    left_out: str | None
    """Why it is not read."""


Beside = dict[str, tuple[str, dict[str, int]]]
"""What is met and not taken: why, and how much; a file by where it lies, for another path may lead there."""


def list_inputs(
    paths: Sequence[str],
    *,
    where: str,
    suffixes: Sequence[str],
    exclude: Sequence[str] = HIDDEN,
    left_out: Counts | None = None,
) -> list[Input]:
    """Give every file in the order of the paths, sorted inside each; a DataError where a path names none.

    From folders files with these suffixes, or so named, are taken, globs and single files as they are. A name
    starts with the folder's own name, be it a link's, and never with its place on this machine, since
    selection hashes it. What is met and not taken is counted in `left_out`.
    """
    if missing := missing_of(paths, where):
        raise DataError("\n".join(missing))
    left_out = Counts() if left_out is None else left_out
    inputs: dict[str, Input] = {}
    seen: set[str] = set()
    beside: Beside = {}
    for entry in paths:
        found = list((_remote if is_url(entry) else _local)(entry, where, suffixes, exclude, beside))
        for input, identity, why in found:
            if why:
                beside.setdefault(identity, (why, {"files": 1, "bytes": input.size}))
                continue
            if identity in seen:
                left_out.add("same_file", files=1, bytes=input.size)
                continue
            if input.name in inputs:
                raise DataError(
                    f"{where}.paths: every file must have its own name, got {input.name} twice; "
                    "rename a folder"
                )
            seen.add(identity)
            inputs[input.name] = input
        if all(why for *_, why in found):
            raise DataError(
                f"{where}.paths: every path must hold files that are read (of a folder: "
                f"{', '.join(suffixes)}, without {', '.join(exclude) or 'exception'}), got none in {entry}; "
                "check the path, suffixes and exclude"
            )
    read = seen | {os.path.abspath(local_path(entry)) for entry in paths}
    for identity, (why, amounts) in beside.items():
        if identity not in read:
            left_out.add(why, **amounts)
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
        elif not is_url(entry):
            path = local_path(entry)
            if not path.exists() and not glob.glob(str(path), recursive=True):
                problems.append(_nothing_there(entry, where))
    return problems


def _local(
    entry: str, where: str, suffixes: Sequence[str], exclude: Sequence[str], beside: Beside
) -> Iterator[_Found]:
    if entry.startswith(PYTHON):
        label = entry.removeprefix(PYTHON)
        root = cast(Path, _python_folder(label))
    else:
        root = local_path(entry)
        label = own_name(root)
    if root.is_dir():
        below = _walk(root, where, exclude, beside)
        named = [(PurePath(label) / path, root / path, _why_not(path, suffixes, exclude)) for path in below]
    elif root.is_file():
        named = [(PurePath(label), root, None)]
    else:
        fixed = Path(_fixed_folder(str(root)) or root.anchor)
        below = [Path(path).relative_to(fixed) for path in sorted(glob.glob(str(root), recursive=True))]
        label = own_name(fixed)
        named = [(PurePath(label) / path, fixed / path, _why_not(path, None, exclude)) for path in below]
    for name, path, why in named:
        if path.is_file():
            facts = path.stat()
            input = Input(
                name=written(name.as_posix()), url=str(path), size=facts.st_size, stamp=stamp_of(facts)
            )
            yield _Found(input, str(path.resolve()), why)
        elif not path.is_dir():
            beside[os.path.abspath(path)] = ("no_file", {"files": 1})
        elif "**" not in entry:
            beside[os.path.abspath(path)] = ("folder_of_glob", {"folders": 1})


def _walk(root: Path, where: str, exclude: Sequence[str], beside: Beside) -> list[Path]:
    """Give what lies below a folder, excluded or not; linked folders are counted and not gone into."""

    def refuse(error: OSError) -> None:
        if _excluded(Path(error.filename).relative_to(root), exclude):
            beside[os.path.abspath(error.filename)] = ("unreadable_folder", {"folders": 1})
            return
        raise DataError(
            f"{where}.paths: every folder must be readable, got {error.filename}: {error.strerror}; "
            "check your access or exclude it"
        ) from error

    paths: list[Path] = []
    for place, folders, names in os.walk(root, onerror=refuse):
        below = Path(place).relative_to(root)
        paths += [below / name for name in names]
        for name in folders:
            if os.path.islink(path := os.path.join(place, name)):
                why = "excluded" if _excluded(below / name, exclude) else "linked_folder"
                beside[os.path.abspath(path)] = (why, {"folders": 1})
    return sorted(paths)


def _remote(
    entry: str, where: str, suffixes: Sequence[str], exclude: Sequence[str], beside: Beside
) -> Iterator[_Found]:
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
        if info["type"] != "file":
            if "**" not in entry:
                beside[path] = ("folder_of_glob", {"folders": 1})
            continue
        url = files.unstrip_protocol(path)
        name = str(below) if kind == "file" or not label else f"{label}/{below}"
        why = None if kind == "file" else _why_not(below, suffixes if kind else None, exclude)
        input = Input(name=written(name), url=url, size=info.get("size") or 0, stamp=stamp_of(info))
        yield _Found(input, url, why)


def _kind(files: Any, root: str) -> str | None:
    try:
        return files.info(root)["type"]
    except FileNotFoundError:
        return None


def _taken(name: str, suffixes: Sequence[str]) -> bool:
    path = PurePosixPath(name)
    return bool({path.suffix, "".join(path.suffixes[-2:]), name} & set(suffixes))


def _why_not(below: PurePath, suffixes: Sequence[str] | None, exclude: Sequence[str]) -> str | None:
    """Say why a file below a folder (None: of a glob) is not taken."""
    if suffixes is not None and not _taken(below.name, suffixes):
        return "other_ending"
    return "excluded" if _excluded(below, exclude) else None


def _excluded(below: PurePath, patterns: Sequence[str]) -> bool:
    """Match patterns against a path, the folders that lead to it, and any one part of it."""
    names = {*below.parts, *(path.as_posix() for path in (below, *below.parents[:-1]))}
    return any(fnmatchcase(name, pattern) for pattern in patterns for name in names)


def read_with(input: Input, others: Sequence[str], *, must: str, cure: str) -> Input:
    """Give an input with the files that are read with it; a DataError names one that is not there."""
    for url in others:
        if size_and_stamp(url) is None:
            raise DataError(f"{url}: must {must}, got no such file; {cure}")
    stamp = stamp_of_all([input.url, *others])
    return replace(input, stamp=stamp, beside=tuple(others))


def own_name(path: Path) -> str:
    """Give a path's last name, be it a link's own."""
    return Path(os.path.abspath(path)).name


def written(name: str) -> str:
    r"""Give a file's name as text; bytes of it that are not UTF-8 become \xff."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def _fixed_folder(pattern: str) -> str:
    """Give the longest leading folder of a glob that holds no wildcard."""
    while glob.has_magic(pattern):
        pattern = pattern.rpartition("/")[0]
    return pattern


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
