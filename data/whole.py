"""How is a file or a folder of ours written whole or not at all, whoever is killed?

Written under another name beside its own, which says whose process it is; the name comes last. What a killed
process left is removed by the next one of the same machine that writes beside it.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir
from typing import Any

from .errors import DataError

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def room_to_write(folder: Path) -> Iterator[None]:
    """Turn a full disk, quota or file-size limit into a DataError that names the folder."""
    try:
        yield
    except OSError as error:
        if error.errno not in NO_ROOM:
            raise
        raise DataError(
            f"{folder}: the disk must have room for the token store, got {error.strerror or error}; "
            "free some space or point data.store elsewhere (nothing half-written was left)"
        ) from error


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Give another name to write to; renamed to `path` at the end, removed where anything goes wrong."""
    writing = path.with_name(f"{_ours(os.getpid())}{path.name}.part")  # no glob over endings meets it
    try:
        yield writing
        writing.replace(path)
    finally:
        writing.unlink(missing_ok=True)


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """Give a temporary sibling to fill; renamed to `folder` at the end, removed where anything goes wrong."""
    with room_to_write(folder.parent):
        folder.parent.mkdir(parents=True, exist_ok=True)
        remove_abandoned(folder.parent)
        partial = folder.parent / f"{_ours(os.getpid())}{folder.name}"
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


@contextmanager
def passing_folder() -> Iterator[Path]:
    """Give a folder that is there until the block is left."""
    remove_abandoned(Path(gettempdir()))
    with TemporaryDirectory(prefix=_ours(os.getpid())) as folder:
        yield Path(folder)


def write_json(path: Path, fields: Mapping[str, Any]) -> None:
    """Write a JSON file, whole or not at all."""
    with whole_file(path) as writing:
        writing.write_text(json.dumps(fields, indent=1) + "\n", "utf-8")


def remove_abandoned(parent: Path) -> None:
    """Remove what processes of this machine left that were killed while writing."""
    for path in parent.glob(f"{_ours('*')}*"):
        process = path.name.removeprefix(_ours("")[:-1]).split("-")[0]
        try:
            os.kill(int(process), 0)
        except ProcessLookupError:
            shutil.rmtree(path, ignore_errors=True)
            with suppress(OSError):  # a file, or another user's
                path.unlink()
        except (PermissionError, ValueError):
            continue


def _ours(process: int | str) -> str:
    """Begin a name that says whose it is."""
    return f".partial-ropewalk-{socket.gethostname()}-{process}-"
