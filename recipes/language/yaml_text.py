"""How is YAML read? As YAML 1.2 types, and a key said twice is an error instead of the last one winning."""

import re
from pathlib import Path
from typing import Any

import yaml

from .errors import RecipeError


class Loader(yaml.SafeLoader):
    """Read the types a person means: `1e-3` is a number, `yes` and `12:30` are text, `131_072` an integer."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012  a class attribute of PyYAML's own

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Build a mapping whose keys are text and occur once."""
        seen = set()
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue
            key, line = self.construct_object(key_node), key_node.start_mark.line + 1
            if not isinstance(key, str):
                raise RecipeError(f"line {line}: a key must be text, got {key!r}; quote it")
            if key in seen:
                raise RecipeError(
                    f"line {line}: a key must occur once, got {key!r} again; remove one of them"
                )
            seen.add(key)
        return super().construct_mapping(node, deep)


def _integer(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> int:
    return int(loader.construct_scalar(node).replace("_", ""))


def _number(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> float:
    return float(loader.construct_scalar(node).replace("_", "").replace(".inf", "inf").replace(".nan", "nan"))


for _tag, _pattern, _first in (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("null", r"~|null|Null|NULL|", "~nN\0"),
    ("int", r"[-+]?[0-9][0-9_]*", "-+0123456789"),
    (
        "float",
        r"[-+]?(\.[0-9]+|[0-9][0-9_]*\.[0-9_]*|[0-9][0-9_]*(?=[eE]))([eE][-+]?[0-9]+)?",
        "-+.0123456789",
    ),
    ("float", r"[-+]?\.(inf|nan)", "-+."),
    ("merge", r"<<", "<"),
):
    Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(rf"^(?:{_pattern})$"), list(_first))
Loader.add_implicit_resolver("tag:yaml.org,2002:null", re.compile(r"^$"), [""])
Loader.add_constructor("tag:yaml.org,2002:int", _integer)
Loader.add_constructor("tag:yaml.org,2002:float", _number)


def read_yaml(file: Path) -> dict[str, Any]:
    """Read a file that holds one mapping."""
    try:
        text = file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise RecipeError(
            f"{file}: must be UTF-8 text, got byte {error.start} ({error.reason}); re-encode it"
        ) from error
    values = parse_yaml(text, where=str(file))
    if not isinstance(values, dict):
        got = "an empty file" if values is None else type(values).__name__
        raise RecipeError(
            f"{file}: must hold a mapping of keys to values, got {got}; see ropewalk recipes show tiny-base"
        )
    return values


def parse_yaml(text: str, *, where: str) -> Any:
    """Read one YAML value; what is wrong with it is a RecipeError naming `where` and the line."""
    try:
        return yaml.load(text, Loader=Loader)
    except RecipeError as error:
        raise RecipeError(f"{where}: {error}") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f"line {mark.line + 1}: " if mark else ""
        problem = getattr(error, "problem", None) or error
        raise RecipeError(
            f"{where}: {line}must be YAML, got {problem}; check quotes, colons and indents"
        ) from error
