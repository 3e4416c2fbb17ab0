"""How is a plug-in found by name, and made with the knobs that a recipe gives it?

A plug-in is a frozen dataclass of its own knobs in a file of its own; the types of its fields, `Annotated`
with pydantic's constraints, are what a recipe is checked against.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields
from typing import Any, Generic, TypeVar, get_type_hints

from pydantic import BaseModel, ConfigDict, ValidationError, create_model

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
        own = [field.name for field in fields(cls)]  # pyright: ignore[reportArgumentType]
        unknown = [key for key in knobs if key not in own]
        if unknown:
            has = ", ".join(own) or "none"
            raise self._error(
                f"{name}: must be given only knobs it has, got {', '.join(unknown)}; it has: {has}"
            )
        read = _knob_model(cls).model_validate({key: _frozen(value) for key, value in knobs.items()})
        return cls(**{key: getattr(read, key) for key in read.model_fields_set})

    def make(self, name: str, knobs: Mapping[str, Any]) -> P:
        """Do the same for those who script: one error of the room for all that is wrong."""
        try:
            return self.validate(name, knobs)
        except ValidationError as error:
            told = "; ".join(
                f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}, got {problem['input']!r}"
                for problem in error.errors()
            )
            raise self._error(
                f"{name}: must be given knobs of their types, got {told}; correct it"
            ) from error


def _knob_model(cls: type) -> type[BaseModel]:
    """Make the model of a plug-in's fields: a number in quotes is no number, nor is `true`."""
    types = get_type_hints(cls, include_extras=True)
    knobs: dict[str, Any] = {
        field.name: (types[field.name], ... if field.default is MISSING else field.default)
        for field in fields(cls)
    }
    return create_model(cls.__name__, __config__=ConfigDict(strict=True), **knobs)


def _frozen(value: Any) -> Any:
    """Turn YAML's lists into the tuples that plug-ins hold."""
    return tuple(_frozen(item) for item in value) if isinstance(value, list) else value
