"""How is a transform or a scorer found by name, and made with the knobs that a recipe gives it?

A plug-in is a frozen dataclass of its own knobs in a file of its own; the types of its fields, `Annotated`
with pydantic's constraints, are what a recipe is checked against.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any, Generic, TypeVar

from pydantic import TypeAdapter, ValidationError

from ..errors import DataError

P = TypeVar("P")
C = TypeVar("C")


class Registry(Generic[P]):
    """The plug-ins of one kind; calling it with a name registers the class that follows."""

    def __init__(self, what: str) -> None:
        self._what = what
        self.known: dict[str, type[P]] = {}

    def __call__(self, name: str) -> Callable[[type[C]], type[C]]:
        def register(cls: type[C]) -> type[C]:
            if name in self.known:
                raise DataError(
                    f"{self._what} {name}: must be registered once, got {self.known[name].__module__} and "
                    f"{cls.__module__}; rename one"
                )
            cls.name = name  # pyright: ignore[reportAttributeAccessIssue]
            self.known[name] = cls  # pyright: ignore[reportArgumentType]
            return cls

        return register

    def make(self, name: str, knobs: Mapping[str, Any]) -> P:
        """Give the plug-in `name` with these knobs; a DataError names what is unknown or of a wrong type."""
        if name not in self.known:
            known = ", ".join(sorted(self.known)) or "none"
            raise DataError(f"kind: must be a known {self._what}, got {name!r}; there are: {known}")
        cls = self.known[name]
        own = [field.name for field in fields(cls)]  # pyright: ignore[reportArgumentType]
        unknown = sorted(set(knobs) - set(own))
        if unknown:
            has = ", ".join(own) or "none"
            raise DataError(
                f"{name}: must be given only knobs it has, got {', '.join(unknown)}; it has: {has}"
            )
        try:
            return TypeAdapter(cls).validate_python(dict(knobs))
        except ValidationError as error:
            told = "; ".join(
                f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}, got {problem['input']!r}"
                for problem in error.errors()
            )
            raise DataError(f"{name}: must be given knobs of their types, got {told}; correct it") from error
