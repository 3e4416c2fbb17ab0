"""How are a file's bytes had, wherever it lies, and what tells that it is no longer what it was?"""

from __future__ import annotations

import gzip
import hashlib
import io
import mmap
import os
import stat
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
import pyarrow as pa
from fsspec.core import url_to_fs

from ..errors import DataError

CHANGES_WITH = ("ETag", "etag", "blob_id", "LastModified", "last_modified", "mtime", "created")
"""What file systems call that by which a changed file is known, the surest first."""
BUFFER = 1 << 20
COMPRESSIONS = {".gz": "gzip", ".zst": "zstd", ".zstd": "zstd"}
TORN = (OSError, EOFError, zlib.error)
"""What reading a torn file raises, packed or not."""
WIDEST = 27
"""Binary logarithm of the bytes that a zstd file may look back in, for its reader."""


def compression(name: str) -> str | None:
    """Name the compression that a file's suffix promises."""
    return next((codec for suffix, codec in COMPRESSIONS.items() if name.endswith(suffix)), None)


@contextmanager
def opened(url: str, codec: str | None = None) -> Iterator[BinaryIO]:
    """Open a file for buffered reading, decompressed; one that is not there is a DataError, and one of TORN
    comes of a packed one that has no bytes."""
    with _raw(url) as file:
        if codec is None:
            yield file
        elif not file.peek(1):
            raise EOFError("no bytes")
        else:
            yield cast(BinaryIO, io.BufferedReader(cast(io.RawIOBase, unpacked(file, codec)), BUFFER))


def unpacked(file: Any, codec: str) -> Any:
    """Give what a file was packed from, to read; padding behind it, as tapes leave it, is no part of it."""
    if codec == "gzip":
        return gzip.GzipFile(fileobj=file)
    return pa.CompressedInputStream(pa.PythonFile(file, "r"), codec)


def torn(url: str, codec: str | None, error: Exception, read: int) -> DataError:
    """Say what is wrong with a file that raised one of TORN after so many bytes of text."""
    if "too much memory" in str(error):
        return DataError(
            f"{url}: must look back at most {1 << WIDEST:,} bytes (zstd --long={WIDEST}), got a window of "
            f"{_window(url):,}; pack it again: zstd -dc --long=31 FILE | zstd -o OTHER"
        )
    return DataError(
        f"{url}: must be a whole {codec or 'readable'} file, got {error} after {read:,} bytes of text; "
        "fetch it again or leave it out"
    )


def _window(url: str) -> int:
    """Read from its header how many bytes the first frame of a zstd file looks back (RFC 8878, 3.1.1.1)."""
    with _raw(url) as file:
        head = file.read(18)
    about = head[4]
    if not about & 0x20:
        base = 1 << (10 + (head[5] >> 3))
        return base + base // 8 * (head[5] & 7)
    at = 5 + (0, 1, 2, 4)[about & 3]  # behind the dictionary's number: all of the content is looked back in
    return int.from_bytes(head[at : at + (1, 2, 4, 8)[about >> 6]], "little")


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
            facts = os.stat(local_path(url))
            return (facts.st_size, stamp_of(facts)) if stat.S_ISREG(facts.st_mode) else None
        files, path = url_to_fs(url)
        info = files.info(path)
    except OSError:
        return None
    return (info.get("size") or 0, stamp_of(info)) if info["type"] == "file" else None


def stamp_of(facts: os.stat_result | Mapping[str, Any]) -> str:
    """Give what of a file's facts changes with it; here both times, for a copy may keep the first."""
    if isinstance(facts, os.stat_result):
        return f"{facts.st_mtime_ns} {facts.st_ctime_ns}"
    return next((str(facts[key]) for key in CHANGES_WITH if facts.get(key)), "")


def stamp_of_all(urls: Sequence[str]) -> str:
    """Give what changes with any of these files; nothing where one is gone, or where one tells nothing."""
    stamps = [found[1] if (found := size_and_stamp(url)) else "" for url in urls]
    return _together(stamps) if all(stamps) else ""


def hash_of_all(urls: Sequence[str]) -> str | None:
    """Give the sha256 of files' bytes as stored; None for remote ones, which their stamp tells apart."""
    if any(map(is_url, urls)):
        return None
    hashes = []
    for url in urls:
        with _raw(url) as file:
            hashes.append(hashlib.file_digest(file, "sha256").hexdigest())
    return _together(hashes)


def _together(texts: Sequence[str]) -> str:
    return texts[0] if len(texts) == 1 else hashlib.sha256("\0".join(texts).encode()).hexdigest()


def local_path(entry: str) -> Path:
    """Give the place of a path on this machine."""
    return Path(os.path.expanduser(entry.removeprefix("file://")))


def is_url(entry: str) -> bool:
    """Decide whether fsspec reads it; `file://` lies on this machine and does not need it."""
    return "://" in entry and not entry.startswith("file://")


def _raw(url: str) -> io.BufferedReader:
    try:
        if not is_url(url):
            return cast(io.BufferedReader, local_path(url).open("rb", buffering=BUFFER))
        files, path = url_to_fs(url)
        return io.BufferedReader(cast(io.RawIOBase, files.open(path, "rb")), BUFFER)
    except OSError as error:
        raise DataError(
            f"{url}: must be readable, got {error.strerror or error}; check that it is still there"
        ) from error
