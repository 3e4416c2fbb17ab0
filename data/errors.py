"""Which error does a person see when documents, mixture or packs are wrong?"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class DataError(ValueError):
    """A bad corpus, mixture or store, said as `<where>: <what must hold>, got <value>; <cure>`."""


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
