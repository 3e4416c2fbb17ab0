"""Which recipes are there, and what does each do? Without what reads and types them: to list is immediate."""

import os
from difflib import get_close_matches
from pathlib import Path

from .errors import RecipeError

LIBRARY = Path(__file__).parents[1].resolve() / "library"
BASES = ("models", "mixes", "machines")
"""Folders of the library whose files are bases of recipes and do not run by themselves."""


def find(recipe: str | Path) -> Path:
    """Find a recipe by its path, or a shipped one by its name."""
    path = Path(os.path.expanduser(recipe))
    candidates = [path] if path.suffix in (".yaml", ".yml") else [path.with_name(path.name + ".yaml")]
    if path.name == str(recipe):
        candidates += [file for file in shipped() if file.name == candidates[0].name]
    for candidate in candidates:
        if candidate.is_file():
            return candidate.resolve()
    raise RecipeError(
        f"{recipe}: must be a recipe file or the name of a shipped recipe, got neither; {_cure(path)}"
    )


def shipped() -> list[Path]:
    """List the recipes of the package that run, by name."""
    files = (file for file in LIBRARY.glob("*/*.yaml") if file.parent.name not in BASES)
    return sorted(files, key=lambda file: file.stem)


def _cure(path: Path) -> str:
    names = [file.stem for file in shipped()]
    close = get_close_matches(path.stem, names, n=1)
    return f"did you mean {close[0]}?" if close else f"shipped: {', '.join(names)}"


def headline(file: Path) -> str:
    """Give the first comment line of a recipe file: what it does."""
    first = file.read_text(encoding="utf-8").partition("\n")[0]
    return first.lstrip("# ").strip() if first.startswith("#") else ""
