"""Where does a stage's prepared data lie, and is it there?"""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ropewalk.recipes.errors import RecipeError

if TYPE_CHECKING:
    from ropewalk.train.recipe import Recipe


def store_folder(stage: Recipe) -> Path:
    """Name the store of a stage by what it holds: its length, a hash of the data section and the tokenizer.

    Stages of equal data share a store, and a changed mix never meets an old one.
    """
    held = [stage.target_length, stage.model.tokenizer_folder.name, stage.data.model_dump(mode="json")]
    digest = hashlib.sha256(json.dumps(held, sort_keys=True).encode()).hexdigest()[:10]
    return Path(stage.run_dir) / "data" / f"{stage.target_length}-{digest}"


def require_prepared(stages: Sequence[Recipe], *, recipe: str, overrides: Sequence[str]) -> None:
    """Stop with the command that prepares what is missing."""
    missing = [str(store_folder(stage)) for stage in stages if not store_folder(stage).is_dir()]
    if missing:
        command = shlex.join(["ropewalk", "prepare", recipe, *overrides])
        raise RecipeError(
            f"{recipe}: data: must be prepared, got no store at {', '.join(missing)}; run: {command}"
        )
