"""How does a recipe file become a Recipe? Bases below, the file over them, `key=value` on top, then types."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from ...train.errors import shown
from .catalogue import LIBRARY, find, shipped
from .errors import RecipeError, raise_all
from .layers import inside, merge
from .schema import Draft, Recipe, draft, parse
from .yaml_text import parse_yaml, read_yaml

PLACES = {"assets": str(LIBRARY / "assets"), "corpora": "corpora"}
"""What `${...}` may name beside a recipe's own keys."""
KEY = re.compile(r"[A-Za-z_][\w-]*(\[\d+\]|\.[\w-]+)*")


def load(recipe: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Compose, resolve and type a recipe; the error lists every problem with file and key."""
    values = _composed(recipe, overrides)
    refuse(recipe, overrides, draft(values).problems)
    return parse(values)


def read_draft(recipe: str | Path, overrides: Sequence[str] = ()) -> Draft:
    """Compose, resolve and type as much of a recipe as can be, beside what is wrong with the rest."""
    return draft(_composed(recipe, overrides))


def refuse(recipe: str | Path, overrides: Sequence[str], problems: Iterable[str]) -> None:
    """Raise one error that lists all problems, each with the base that its key stands in."""
    raise_all(str(recipe), [problem + _base_of(recipe, overrides, problem) for problem in problems])


def _base_of(recipe: str | Path, overrides: Sequence[str], problem: str) -> str:
    """Say in which base the key of a problem stands; nothing where the recipe or an override says it."""
    if ", got nothing;" in problem:  # what stood there was taken away, or never was
        return ""
    parts = _parts(problem.partition(":")[0])
    said = [override.parts for override in map(Override.read, overrides)]
    file = find(recipe)
    stated = [one for one, values in _layers(file) if inside(values, parts) is not None]
    overridden = any(one[: len(parts)] == parts[: len(one)] for one in said)
    if not stated or stated[-1] == file or overridden:
        return ""
    return f" (it stands in {stated[-1]})"


def _layers(file: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Give each file of a recipe with what it says itself, in the order in which they are laid."""
    values = read_yaml(file)
    for name in values.get("base", []):
        yield from _layers(_find_base(name, file))
    yield file, values


def _parts(key: str) -> list[int | str]:
    return [int(part) if part.isdigit() else part for part in re.findall(r"[^.\[\]]+", key)]


def _composed(recipe: str | Path, overrides: Sequence[str]) -> dict[str, Any]:
    values = compose(recipe, overrides)
    if "compare" in values:
        raise RecipeError(
            f"{recipe}: compare: must be absent from a recipe that is run by itself, got a comparison; "
            f"run ropewalk compare {recipe}"
        )
    return values


def compose(recipe: str | Path, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Resolve a recipe to plain values: bases merged in order, overrides on top, interpolations filled in.

    `${assets}` is the folder of the shipped assets, wherever the package lies; `${corpora}` is `corpora`, or
    what `corpora=FOLDER` says; a relative path is relative to the working directory. `${KEY}` takes another
    key's value. A stage may have bases too.

    The order of overrides decides only between those of one key: a mapping comes before what it holds, and a
    kind before its knobs.
    """
    return _resolved(_overridden(_with_bases(find(recipe), []), overrides), str(recipe))


def _overridden(values: dict[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    for override in sorted(map(Override.read, overrides), key=Override.depth):
        values = merge(values, _nested(override.parts, override.value, values, override.text))
    return values


def dropped(recipe: str | Path, overrides: Sequence[str]) -> Iterator[str]:
    """Say what an override to another kind takes away, where nothing says it again of the new one."""
    before = _with_bases(find(recipe), [])
    after = _overridden(before, overrides)
    for override in map(Override.read, overrides):
        *path, last = override.parts
        old, new = (inside(values, path) for values in (before, after))
        if last == "kind" and isinstance(old, Mapping) and isinstance(new, Mapping):
            lost = [f"{key} {shown(value)}" for key, value in old.items() if key not in new]
            if lost and old.get("kind") != new.get("kind"):
                yield f"{override.text}: takes away what was said of {old.get('kind')}: {', '.join(lost)}"


class Override(NamedTuple):
    """One `train.steps=10` or `stages[0].train.steps=10` of a command line."""

    text: str
    parts: list[int | str]
    value: Any

    @classmethod
    def read(cls, text: str) -> Override:
        key, sign, value = text.partition("=")
        if not sign or not KEY.fullmatch(key):
            raise RecipeError(f"{text}: an override must be key=value, got {text!r}; write train.steps=10")
        if not value.strip():
            raise RecipeError(
                f"{text}: an override must have a value, got none; write {key}=null to remove the key, or "
                f"{key}='\"\"' for an empty text"
            )
        return cls(text, _parts(key), parse_yaml(value, where=text))

    def depth(self) -> tuple[int, bool]:
        return len(self.parts), self.parts[-1] != "kind"


def _with_bases(file: Path, below: Iterable[Path]) -> dict[str, Any]:
    """Merge the bases of a file in their order and the file over them, and so in each of its stages."""
    chain = [*below, file]
    values = _over_bases(read_yaml(file), file, chain, "base")
    if isinstance(values.get("stages"), list):
        values["stages"] = [
            _over_bases(stage, file, chain, f"stages[{index}].base") if isinstance(stage, dict) else stage
            for index, stage in enumerate(values["stages"])
        ]
    return values


def _over_bases(values: dict[str, Any], file: Path, chain: list[Path], where: str) -> dict[str, Any]:
    bases = values.pop("base", [])
    if not isinstance(bases, list) or not all(isinstance(base, str) for base in bases):
        raise RecipeError(
            f"{file}: {where}: must be a list of file names, got {bases!r}; write base: [NAME.yaml]"
        )
    merged: dict[str, Any] = {}
    for name in bases:
        base = _find_base(name, file)
        if base in chain:
            circle = " -> ".join(link.name for link in [*chain[chain.index(base) :], base])
            raise RecipeError(f"{file}: {where}: must not come back to itself, got {circle}; remove one link")
        merged = merge(merged, _with_bases(base, chain))
    return merge(merged, values)


def _find_base(name: str, file: Path) -> Path:
    """Find a base beside the file, in the library by its folder, or a shipped recipe by its name."""
    named = [recipe for recipe in shipped() if recipe.name == name]
    for base in (file.parent / os.path.expanduser(name), LIBRARY / name, *named):
        if base.is_file():
            return base.resolve()
    raise RecipeError(
        f"{file}: base: must name a file beside it or in {LIBRARY}, got {name}; correct the name"
    )


def _nested(parts: list[int | str], value: Any, below: Any, override: str) -> Any:
    """Wrap a value in the mappings of its path; a step into a list copies the list with one item changed."""
    if not parts:
        return value
    head, rest = parts[0], parts[1:]
    if isinstance(below, list):
        if not isinstance(head, int) or head >= len(below):
            raise RecipeError(
                f"{override}: must name an item 0..{len(below) - 1} of the list, got {head!r}; correct it"
            )
        item = _nested(rest, value, below[head], override)
        changed = (
            merge(below[head], item)
            if isinstance(item, Mapping) and isinstance(below[head], Mapping)
            else item
        )
        return [*below[:head], changed, *below[head + 1 :]]
    under = below.get(str(head)) if isinstance(below, Mapping) else None
    return {str(head): _nested(rest, value, under, override)}


def _resolved(values: dict[str, Any], where: str) -> dict[str, Any]:
    """Fill in `${...}` by OmegaConf; what it cannot resolve is an error with its key."""
    try:
        config = OmegaConf.create({**PLACES, **values})
        OmegaConf.resolve(config)
    except OmegaConfBaseException as error:
        key = getattr(error, "full_key", None) or "recipe"
        reason = str(error).splitlines()[0]
        raise RecipeError(
            f"{where}: {key}: must be resolvable, got: {reason}; correct the ${{...}}"
        ) from error
    resolved = OmegaConf.to_container(config)
    assert isinstance(resolved, dict)
    return {str(key): value for key, value in resolved.items() if key in values and key != "corpora"}
