"""Which keys may stand in a recipe? Every one with its type, default and meaning, as the schema has them.

    python tests/reference/keys.py     # writes docs/recipe-keys.md

A meaning is the text below the field in the source; a new key or plug-in is here by being there.
"""

import ast
import inspect
import re
import sys
import types
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from pathlib import Path
from textwrap import dedent
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from ropewalk.data.mixing.scorer import ScoreSection, scorer
from ropewalk.data.mixing.transform import transform
from ropewalk.data.registry import PluginSection
from ropewalk.data.sources.source import Reading
from ropewalk.data.spec import READ_SOURCES, FactsSource, Mixing, PoolSource, RepeatsSource, Selection
from ropewalk.eval.task import TASKS
from ropewalk.recipes.jobs.comparison.section import CompareSection, SchemeEntry
from ropewalk.recipes.language.schema import Recipe
from ropewalk.rope import SCHEMES, Scheme

PAGE = Path(__file__).parents[2] / "docs" / "recipe-keys.md"
WORDS = {int: "integer", float: "number", str: "text", bool: "true or false", type(None): "null", Any: "any"}
SIGNS = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<"}
HEAD = "| key | what may stand there | default | meaning |\n|---|---|---|---|\n"
OPENING = """# The keys of a recipe

How recipes are composed, and what `null` and `{}` do: [recipes](recipes.md). This page is made from the
schema, by `python tests/reference/keys.py`. `ropewalk recipes show --all RECIPE` gives the value of every key
of a recipe, `ropewalk recipes check RECIPE` tells whether they fit together.

## The whole

"""


class Row(NamedTuple):
    """One key: its type in words, its default, its meaning."""

    key: str
    type: str
    default: str
    meaning: str

    def __str__(self) -> str:
        cells = (f"`{self.key}`", self.type, self.default, re.sub(r"\bNone\b", "null", self.meaning))
        return "| " + " | ".join(" ".join(cell.split()).replace("|", "\\|") for cell in cells) + " |\n"


@cache
def meanings(cls: type) -> Mapping[str, str]:
    """Read the text below each field of a class, those of its bases too."""
    found: dict[str, str] = {}
    for one in reversed([base for base in cls.__mro__ if base.__module__.startswith("ropewalk.")]):
        try:
            [tree] = ast.parse(dedent(inspect.getsource(one))).body
        except OSError:  # a class that was made, as those of the kinds of sources are
            continue
        assert isinstance(tree, ast.ClassDef)
        for field, text in zip(tree.body, tree.body[1:], strict=False):
            match field, text:
                case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(
                    value=ast.Constant(value=str(meaning))
                ):
                    found[name] = meaning
    return found


def type_words(annotation: Any, metadata: Any = ()) -> str:
    """Say a type in the words of a recipe."""
    origin, inside = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return type_words(inside[0], [*inside[1:], *metadata])
    if origin in (Union, types.UnionType):
        words = " or ".join(dict.fromkeys(type_words(one) for one in inside if one is not type(None)))
        nullable = type(None) in inside
        return " ".join([words, *bounds(metadata)]) + (" or null" if nullable else "")
    if origin is Literal:
        words = " or ".join(f"`{one}`" for one in inside)
    elif origin in (list, tuple):
        items = [one for one in inside if one is not ...]
        words = (
            f"list of {len(items)} of {type_words(items[0])}"
            if len(items) > 1
            else f"list of {type_words(items[0])}"
        )
    elif origin is dict:
        words = "mapping"
    elif isinstance(annotation, type) and issubclass(annotation, Scheme):
        words = "a scheme"
    elif isinstance(annotation, type) and issubclass(annotation, BaseModel):
        words = "a mapping with `kind`" if issubclass(annotation, PluginSection) else "mapping"
    else:
        words = WORDS.get(annotation, "text")
    return " ".join([words, *bounds(metadata)])


def bounds(metadata: Any) -> Iterator[str]:
    """Say the bounds among the metadata of a type, those of pydantic's fields in it too."""
    for one in metadata:
        if isinstance(one, FieldInfo):
            yield from bounds(one.metadata)
            continue
        for name, sign in SIGNS.items():
            if (bound := getattr(one, name, None)) is not None:
                yield f"{sign} {bound:g}" if bound < 1e6 else f"{sign} 2^{int(bound).bit_length() - 1}"


def default_words(value: Any) -> str:
    if value in (PydanticUndefined, MISSING):
        return "must be given"
    if isinstance(value, Scheme):
        return f"`{{kind: {value.name}}}`"
    if value is None or isinstance(value, bool):
        return f"`{str(value).lower().replace('none', 'null')}`"
    if isinstance(value, str):
        return f'`"{value}"`' if not value else f"`{value}`"
    if isinstance(value, list | tuple) and len(value) > 8:
        return f"{len(value)} of them"
    return f"`{list(value) if isinstance(value, tuple) else value}`"


def rows(cls: type[BaseModel], prefix: str = "", *, without: Any = ()) -> Iterator[Row]:
    """List the keys of a section, those of the sections inside it below them."""
    for name, field in cls.model_fields.items():
        if name in without:
            continue
        key, inner = f"{prefix}{name}", inside(field.annotation)
        if inner is not None and not (issubclass(inner, PluginSection) and inner not in OWN_KEYS):
            if inner is not field.annotation:  # a section or null, or words beside it
                words = type_words(field.annotation, field.metadata)
                yield Row(key, words, default_words(field.default), meanings(cls).get(name, ""))
            yield from rows(inner, f"{key}.")
            continue
        default = field.get_default(call_default_factory=True)
        yield Row(
            key,
            type_words(field.annotation, field.metadata),
            default_words(default),
            meanings(cls).get(name, ""),
        )


OWN_KEYS = (ScoreSection, Recipe.model_fields["rope"].annotation)
"""Sections of a plug-in that have keys of their own beside its knobs."""


def inside(annotation: Any) -> type[BaseModel] | None:
    """Give the section that a field is, if it is one."""
    members = get_args(annotation) if get_origin(annotation) in (Union, types.UnionType) else (annotation,)
    sections = [one for one in members if isinstance(one, type) and issubclass(one, BaseModel)]
    return sections[0] if len(sections) == 1 and len(members) <= 2 else None


def knobs(kind: str, cls: type) -> Iterator[Row]:
    """List the knobs of a plug-in."""
    hints = get_type_hints(cls, include_extras=True)
    assert is_dataclass(cls)
    for field in fields(cls):
        default: Any = field.default
        if isinstance(default, FieldInfo):
            default = default.default
        if field.default_factory is not MISSING:
            default = field.default_factory()
        yield Row(
            f"{kind}: {field.name}",
            type_words(hints[field.name]),
            default_words(default),
            meanings(cls).get(field.name, ""),
        )


def table(all_rows: Iterator[Row] | list[Row]) -> str:
    return HEAD + "".join(map(str, all_rows))


def plug_ins(known: Mapping[str, type]) -> str:
    """Make the table of one registry, and name the plug-ins without knobs."""
    listed = [row for kind, cls in known.items() for row in knobs(kind, cls)]
    bare = [f"`{kind}`" for kind, cls in known.items() if not fields(cls)]
    return table(listed) + (f"\nWithout knobs: {', '.join(bare)}.\n" if bare else "")


def page() -> str:
    """Write the whole page."""
    common = {*Selection.model_fields, *Reading.model_fields, "kind"}
    kinds = {**READ_SOURCES, "pool": PoolSource, "facts": FactsSource, "repeats": RepeatsSource}
    chosen = {*Selection.model_fields} - {*Mixing.model_fields}
    own = [
        row._replace(key=f"{kind}: {row.key}")
        for kind, cls in kinds.items()
        for row in rows(cls, without=common)
    ]
    parts = [
        OPENING,
        table(rows(Recipe)),
        f"\n## `data.sources.NAME`\n\n`kind` is one of `{'`, `'.join(kinds)}`. All take:\n\n",
        table(rows(Mixing)),
        "\nAll but `facts` and `repeats`, which draw their documents, take:\n\n",
        table(rows(Selection, without={*Selection.model_fields} - chosen)),
        "\nThose that are read take:\n\n",
        table(rows(Reading)),
        "\nEach kind takes:\n\n",
        table(own),
        "\n## Schemes\n\n`rope`, and each of `compare.schemes`: `kind` and its knobs.\n\n",
        plug_ins(SCHEMES),
        "\n## Evaluation tasks\n\n`eval.tasks.NAME`: `kind` and its settings.\n\n",
        plug_ins(TASKS.known),
        "\n## Scorers and transforms\n\nA source's `score` and `transform`: `kind` and its knobs.\n\n",
        plug_ins({**scorer.known, **transform.known}),
        "\n## `compare`\n\nIn the recipe of a comparison, in place of `rope`:\n\n",
        table([*rows(CompareSection, "compare."), *rows(SchemeEntry, "compare.schemes[i].")]),
    ]
    return "".join(parts)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    sys.stdout.write(f"{PAGE}\n")
