"""How does a person read what pydantic found wrong? A line a problem, with key, value and cure."""

import re
import types
from collections.abc import Mapping
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from ...train.errors import nearest, shown

MUST_BE = {
    "int_type": "must be an integer",
    "int_from_float": "must be an integer",
    "float_type": "must be a number",
    "finite_number": "must be a finite number",
    "string_type": "must be text",
    "bool_type": "must be true or false",
    "list_type": "must be a list",
    "tuple_type": "must be a list",
    "dict_type": "must be a mapping",
    "model_type": "must be a mapping of keys to values",
    "model_attributes_type": "must be a mapping of keys to values",
}
SUFFIXES = {"k": 1024, "m": 1024**2}


def problems(error: ValidationError, schema: type[BaseModel]) -> list[str]:
    """List `<key>: <what must hold>, got <value>; <cure>`, one line for each thing pydantic found."""
    return [_located(key_path(line["loc"], schema), _sentence(line, schema)) for line in error.errors()]


def key_path(location: tuple[int | str, ...], schema: type[BaseModel]) -> str:
    """Write a pydantic location as a recipe's key, `stages[0].train.steps`, without the tags of unions."""
    path, reached = "", [schema]
    for part in location:
        reached, is_key = _step(reached, part)
        if is_key:
            path += f"[{part}]" if isinstance(part, int) else f".{part}"
    return path.lstrip(".") or "recipe"


def _located(path: str, sentence: str) -> str:
    """Put the key before a sentence; one that names a key of its own is taken at its word."""
    named = re.match(r"([a-z_]\w*)[\w.\[\]-]*: ", sentence)
    if named is None:
        return f"{path}: {sentence}"
    return sentence if named[1] == path.partition(".")[0] else f"{path}.{sentence}"


def _sentence(line: Any, schema: type[BaseModel]) -> str:
    kind, value, context = line["type"], line["input"], line.get("ctx", {})
    if kind == "missing":
        return "must be given, got nothing; add it"
    if kind == "extra_forbidden":
        return f"must be a known key, got {shown(line['loc'][-1])}; {_known_keys(line['loc'], schema)}"
    if kind == "value_error":
        return str(context["error"])
    if kind == "literal_error":
        return f"must be one of {context['expected']}, got {shown(value)}"
    if kind == "too_short":
        return f"must have at least {context['min_length']}, got {shown(value)}; add one"
    if kind == "union_tag_invalid":
        return f"must have a known kind, got {context['tag']!r}; known: {context['expected_tags']}"
    if kind == "union_tag_not_found":
        return f"must say its kind, got {shown(value)}; add kind: ..."
    must_be = MUST_BE.get(kind) or line["msg"].replace("Input should be", "must be")
    cure = f"; {context['cure']}" if "cure" in context else _usual_cure(kind, value)
    return f"{must_be}, got {shown(value)}{cure}"


def _usual_cure(kind: str, value: Any) -> str:
    """Say what a null would do, and how a length such as 128k is written out."""
    if value is None:
        return "; nothing is here that a null would remove: correct the key or leave it out"
    if kind in ("int_type", "float_type") and isinstance(value, str):
        digits, factor = value[:-1], SUFFIXES.get(value[-1:].lower())
        if factor and digits.isdigit():
            return f"; write {int(digits) * factor} (or {int(digits) * 1000})"
        return "; write a plain number without quotes"
    return "; write true or false" if kind == "bool_type" else ""


def _known_keys(location: tuple[int | str, ...], schema: type[BaseModel]) -> str:
    reached = [schema]
    for part in location[:-1]:
        reached, _ = _step(reached, part)
    known = [name for one in reached if _is_model(one) for name in one.model_fields]
    return nearest(str(location[-1]), known)


def _step(reached: list[Any], part: int | str) -> tuple[list[Any], bool]:
    """Follow one part of a location through the annotations; False where it was a union's tag and no key."""
    inside: list[Any] = []
    for one in reached:
        if _is_model(one) and part in one.model_fields:
            inside += _members(one.model_fields[str(part)].annotation)
        elif get_origin(one) in (list, tuple) and isinstance(part, int):
            inside += [member for item in get_args(one) if item is not ... for member in _members(item)]
        elif get_origin(one) in (dict, Mapping):
            inside += _members(get_args(one)[1])
    if inside:
        return inside, True
    tagged = [one for one in reached if _is_model(one) and part in (one.__name__, _tag(one))]
    return (tagged, False) if tagged else ([], True)


def _members(annotation: Any) -> list[Any]:
    """Take a union apart and drop `Annotated` around its members."""
    if get_origin(annotation) is Annotated:
        return _members(get_args(annotation)[0])
    if get_origin(annotation) in (Union, types.UnionType):
        return [member for one in get_args(annotation) for member in _members(one)]
    return [annotation]


def _is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _tag(model: type[BaseModel]) -> str | None:
    """Read the `kind` literal by which a member of a discriminated union is chosen."""
    kind = model.model_fields.get("kind")
    tags = get_args(kind.annotation) if kind else ()
    return tags[0] if tags else None
