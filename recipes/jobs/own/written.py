"""How does a recipe become YAML in which each value has its reason above it?"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

import yaml

from ...language.errors import RecipeError
from ...language.yaml_text import parse_yaml

COLUMNS = 110


def written(values: Mapping[str, Any], reasons: Mapping[str, str], above: str = "") -> Iterator[str]:
    """Give the lines; `reasons` name a key as `train.steps`."""
    depth = above.count(".") + 1 if above else 0
    indent = "  " * depth
    for key, value in values.items():
        place = f"{above}.{key}" if above else key
        yield from comment(reasons.get(place, ""), indent)
        if isinstance(value, Mapping) and value:
            yield f"{indent}{key}:"
            yield from written(value, reasons, place)
        else:
            yield f"{indent}{key}: {_flow(value)}"


def comment(text: str, indent: str = "") -> list[str]:
    """Fold a text into lines that YAML does not read; what is indented keeps its line."""
    lines = [
        folded
        for line in text.splitlines()
        for folded in ([line] if line[:1] in ("", " ") else textwrap.wrap(line, COLUMNS - 2 - len(indent)))
    ]
    return [f"{indent}# {line}".rstrip() for line in lines]


def _flow(value: Any) -> str:
    """Write a value on one line, text in quotes only where it would be read as something else."""
    if isinstance(value, list):
        return f"[{', '.join(map(_flow, value))}]"
    if isinstance(value, float):
        return repr(value).replace("e-0", "e-")
    text = yaml.safe_dump(value, width=float("inf"), allow_unicode=True).removesuffix("\n...\n").strip()
    read: list[Any] = []
    with suppress(RecipeError):
        read = parse_yaml(f"[{text}]", where="")
    same = read == [value] and type(read[0]) is type(value) and "\n" not in text
    return text if same else json.dumps(value, ensure_ascii=False)
