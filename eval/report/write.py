"""How does a report reach the disk: report.json, report.html and its pictures, each complete or absent?"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...train.storage import write_bytes
from ..errors import EvalError
from ..result import FORMAT, with_words
from . import figures, page, scheme_figures, schemes


def write_report(report: Mapping[str, Any], folder: Path | str) -> list[Path]:
    """Write a report into a folder, which is made if needed; return the files, report.html last."""
    pictures = figures.draw(report)
    return _written(Path(folder), report, pictures, page.page(report, pictures))


def write_comparison(report: Mapping[str, Any], folder: Path | str) -> list[Path]:
    """Write the report of a comparison of schemes in the same way."""
    pictures = scheme_figures.draw(report)
    return _written(Path(folder), report, pictures, schemes.page(report, pictures))


def _written(folder: Path, report: Mapping[str, Any], pictures: Mapping[str, bytes], html: str) -> list[Path]:
    files = {f"{name}.png": png for name, png in pictures.items()}
    files["report.json"] = (json.dumps(report, indent=1, allow_nan=False) + "\n").encode()
    files["report.html"] = html.encode()
    for name, data in files.items():
        write_bytes(folder / name, data)
    return [folder / name for name in files]


def read_report(path: Path | str) -> dict[str, Any]:
    """Read the report.json of a run or of a comparison, refusing formats of other versions."""
    report = json.loads(Path(path).read_text(encoding="utf-8"))
    if report.get("format") != FORMAT:
        raise EvalError(
            f"{path}: format must be {FORMAT}, got {report.get('format')!r}; read it with the version that "
            "wrote it"
        )
    if "tasks" in report:
        report["tasks"] = {name: with_words(task) for name, task in report["tasks"].items()}
    if "rankings" in report:
        report["rankings"] = [with_words(row) for row in report["rankings"]]
    return report
