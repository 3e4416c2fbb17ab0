"""Is a store still what was written? Its corpus and all plans on it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from .corpus.check import check_folder
from .errors import DataError

Progress = Callable[[str, int, int], None]


def check_store(folder: str | Path, progress: Progress | None = None) -> int:
    """Give the number of files that were read; a DataError names all that are not what was written."""
    folder, broken, files = Path(folder), list[str](), 0
    plans = sorted(path for path in folder.glob("plans/*") if not path.name.startswith("."))
    for check in (
        partial(check_folder, folder / "corpus", "corpus", progress),
        *(partial(check_folder, plan, "plan") for plan in plans),
    ):
        try:
            files += check()
        except DataError as error:
            broken.append(str(error))
    if broken:
        raise DataError("\n".join(broken))
    return files
