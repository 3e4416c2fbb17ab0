"""What does a person do who named a model's folder that is not here?"""

from __future__ import annotations

import re
from pathlib import Path

HUB_ID = re.compile(r"(?!models/|runs/)[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


def fetching(folder: str | Path) -> str:
    """Say how a model of the Hugging Face hub gets here, if the name could be one; else nothing."""
    name = str(folder)
    if not HUB_ID.fullmatch(name) or Path(name).parent.is_dir():
        return ""
    there = f"models/{name.partition('/')[2]}"
    return f", or fetch it from the hub and name its folder: hf download {name} --local-dir {there}"
