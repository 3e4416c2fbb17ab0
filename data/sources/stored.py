"""How are the bytes of an input had, wherever it lies?"""

from __future__ import annotations

import io
import mmap
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO, cast

import numpy as np
import pyarrow as pa
from fsspec.core import url_to_fs

from ..errors import DataError
from .paths import is_url, stamp_of

BUFFER = 1 << 20
COMPRESSIONS = {".gz": "gzip", ".zst": "zstd", ".zstd": "zstd"}


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
        if is_url(url):
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
        if not is_url(url):
            facts = os.stat(os.path.expanduser(url.removeprefix("file://")))
            return (facts.st_size, str(facts.st_mtime_ns)) if stat.S_ISREG(facts.st_mode) else None
        files, path = url_to_fs(url)
        info = files.info(path)
    except OSError:
        return None
    return (info.get("size") or 0, stamp_of(info)) if info["type"] == "file" else None


def _raw(url: str) -> BinaryIO:
    try:
        if not is_url(url):
            return open(url.removeprefix("file://"), "rb", buffering=BUFFER)
        files, path = url_to_fs(url)
        return cast(BinaryIO, io.BufferedReader(files.open(path, "rb"), BUFFER))
    except OSError as error:
        raise DataError(
            f"{url}: must be readable, got {error.strerror or error}; check that it is still there"
        ) from error
