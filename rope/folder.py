"""What does config.json of a model's folder say, and what does a person do whose model is not here?"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from .knobs import RopeError, shown

HUB_ID = re.compile(r"(?!models/|runs/)[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


def fetching(folder: str | Path) -> str:
    """Say where in a run's folder its model is, or how one of the hub gets here; nothing where neither is."""
    name = str(folder)
    if (Path(folder) / "model" / "config.json").is_file():
        return f", such as {Path(folder) / 'model'}"
    if not HUB_ID.fullmatch(name) or Path(name).parent.is_dir():
        return ""
    there = f"models/{name.partition('/')[2]}"
    return f", or fetch it from the hub and name its folder: hf download {name} --local-dir {there}"


def read_config(file: Path) -> dict[str, Any]:
    """Read a model's config.json."""
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RopeError(f"{file}: must be JSON, got {error}; restore the model's config") from error
    if not isinstance(values, dict):
        raise RopeError(f"{file}: must hold an object, got {shown(values)}; restore the model's config")
    return values
