"""How is a plug-in found by name, and made with the knobs that a recipe gives it?

A plug-in is a frozen dataclass of its own knobs in a file of its own; the types of its fields, `Annotated`
with pydantic's constraints, are what a recipe is checked against.
"""

from __future__ import annotations

import ast
import hashlib
import inspect
import sys
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields
from difflib import get_close_matches
from functools import cached_property
from typing import Any, ClassVar, Generic, Self, TypeVar, get_type_hints

from pydantic import BaseModel, ConfigDict, ValidationError, create_model, model_validator
from pydantic_core import ErrorDetails, InitErrorDetails, PydanticCustomError

from .errors import DataError

P = TypeVar("P")
C = TypeVar("C")


class Registry(Generic[P]):
    """The plug-ins of one kind; calling it with a name registers the class that follows."""

    def __init__(self, what: str, *, error: type[ValueError] = DataError) -> None:
        """`what` and `error` are what `make` speaks of and raises."""
        self._what, self._error = what, error
        self.known: dict[str, type[P]] = {}

    def __call__(self, name: str) -> Callable[[type[C]], type[C]]:
        def register(cls: type[C]) -> type[C]:
            if name in self.known:
                raise self._error(
                    f"{self._what} {name}: must be registered once, got {self.known[name].__module__} and "
                    f"{cls.__module__}; rename one"
                )
            cls.name = name  # pyright: ignore[reportAttributeAccessIssue]
            self.known[name] = cls  # pyright: ignore[reportArgumentType]
            return cls

        return register

    def validate(self, name: str, knobs: Mapping[str, Any]) -> P:
        """Give the plug-in `name` with these knobs; pydantic's ValidationError lists all that is wrong with
        them, each at its field."""
        if name not in self.known:
            known = ", ".join(sorted(self.known)) or "none"
            raise self._error(f"kind: must be a known {self._what}, got {name!r}; there are: {known}")
        cls = self.known[name]
        try:
            read = _knob_model(cls).model_validate({key: _frozen(value) for key, value in knobs.items()})
        except ValidationError as error:
            details = [_detail(problem, name, cls) for problem in error.errors()]
            raise ValidationError.from_exception_data(name, details) from None
        return cls(**{key: getattr(read, key) for key in read.model_fields_set})

    def make(self, name: str, knobs: Mapping[str, Any]) -> P:
        """Do the same for those who script: one error of the room for all that is wrong."""
        try:
            return self.validate(name, knobs)
        except ValidationError as error:
            wrong = "; ".join(
                f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}, got {problem['input']!r}"
                for problem in error.errors()
            )
            raise self._error(
                f"{name}: must be given knobs of their types, got {wrong}; correct it"
            ) from error


def code_of(plugin: object) -> str:
    """Give the sha256 of the module that a plug-in's class stands in, without comments and layout: of another
    one what it made before is not what it makes. Nothing where there is no source to read."""
    try:
        source = inspect.getsource(sys.modules[type(plugin).__module__])
    except (OSError, TypeError):
        return ""
    return hashlib.sha256(ast.unparse(ast.parse(source)).encode()).hexdigest()


class PluginSection(BaseModel, Generic[P]):
    """Name a plug-in in a recipe; the keys that are not the section's are its own knobs."""

    model_config = ConfigDict(frozen=True, extra="allow")
    registry: ClassVar[Registry[Any]]

    kind: str
    """Name of the plug-in; its knobs stand beside it."""

    @property
    def knobs(self) -> dict[str, Any]:
        """Give the plug-in's own knobs as written."""
        return dict(self.model_extra or {})

    @cached_property
    def made(self) -> P:
        """Give the plug-in."""
        return self.registry.validate(self.kind, self.knobs)

    @model_validator(mode="after")
    def _can_be_made(self) -> Self:
        """Make it, so that pydantic takes up what is wrong with its knobs, each problem at its key."""
        try:
            self.made  # noqa: B018
        except ValidationError:
            raise
        except ValueError as error:  # a room's own error names the plug-in, where a recipe has the key
            raise ValueError(str(error).removeprefix(f"{self.kind}.")) from error
        return self


def _knob_model(cls: type) -> type[BaseModel]:
    """Make the model of a plug-in's fields: a number in quotes is no number, nor is `true`."""
    types = get_type_hints(cls, include_extras=True)
    knobs: dict[str, Any] = {
        field.name: (types[field.name], ... if field.default is MISSING else field.default)
        for field in fields(cls)
    }
    return create_model(cls.__name__, __config__=ConfigDict(strict=True, extra="forbid"), **knobs)


def _detail(problem: ErrorDetails, name: str, cls: type) -> InitErrorDetails:
    """Take over one of pydantic's problems with its cure: what is usual, or which knobs there are."""
    kind: Any = problem["type"]
    value = list(problem["input"]) if isinstance(problem["input"], tuple) else problem["input"]
    usual = {field.name: field.default for field in fields(cls)}  # pyright: ignore[reportArgumentType]
    if kind == "extra_forbidden":
        must = f"must be a knob of {name}, which has {', '.join(usual) or 'none'}"
        close = get_close_matches(str(problem["loc"][0]), usual, n=1)
        cure = f"did you mean {close[0]!r}?" if close else "correct or drop it"
        kind = PydanticCustomError("unknown_knob", "{must}", {"must": must, "cure": cure})
    elif not (kind.endswith("_type") and isinstance(value, str)):
        must = (
            problem["msg"]
            .replace("Input should be a valid", "must be a")
            .replace("Input should", "must")
            .replace("a tuple", "a list")
        )
        default = usual.get(str(problem["loc"][0]), MISSING)
        default = list(default) if isinstance(default, tuple) else default
        cure = "write it without quotes or suffixes" if default is MISSING else f"usually {default}"
        kind = PydanticCustomError(
            "knob", "{must}", {"must": must.replace("a integer", "an integer"), "cure": cure}
        )
    return InitErrorDetails(type=kind, loc=problem["loc"], input=value, ctx=problem.get("ctx", {}))


def _frozen(value: Any) -> Any:
    """Turn YAML's lists into the tuples that plug-ins hold."""
    return tuple(_frozen(item) for item in value) if isinstance(value, list) else value
