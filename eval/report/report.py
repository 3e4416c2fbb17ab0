"""How does a report reach the disk: report.json, report.html and one PNG a task, each complete or absent."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import EvalError
from ..run import FORMAT
from .page import page

Report = Mapping[str, Any]


def write_report(report: Report, folder: Path | str) -> list[Path]:
    """Write a report into a folder, which is made if needed; return the files, report.html last."""
    from .figures import draw  # matplotlib takes a second that no other verb should wait for

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    pictures = draw(report)
    files = {f"{name}.png": data for name, data in pictures.items()}
    files["report.json"] = (json.dumps(report, indent=1, allow_nan=False) + "\n").encode()
    files["report.html"] = page(report, pictures).encode()
    return [write_whole(folder / name, data) for name, data in files.items()]


def read_report(path: Path | str) -> dict[str, Any]:
    """Read a report.json, refusing formats of other versions."""
    report = json.loads(Path(path).read_text())
    if report.get("format") != FORMAT:
        raise EvalError(
            f"{path}: format must be {FORMAT}, got {report.get('format')!r}; read it with the version that "
            "wrote it"
        )
    return report


def write_whole(path: Path, data: bytes) -> Path:
    """Write beside, flush, then rename: a reader sees the old file or the new one."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with beside.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except OSError as problem:
        beside.unlink(missing_ok=True)
        raise EvalError(
            f"{path}: must be writable, got {problem.strerror}; free space or choose another run_dir"
        ) from problem
    return path
