"""What is done with a document that cannot be read?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ..errors import DataError
from .source import Raw


class Fault(DataError):  # noqa: N818 it is what a document has
    """One document is broken; `reason` is the word under which it is counted."""

    def __init__(self, reason: str, *, place: str, must: str, got: str, cure: str) -> None:
        super().__init__(f"{place}: {must}, got {got}; {cure}")
        self.reason = reason


@dataclass(frozen=True, kw_only=True)
class Policy:
    """What the recipe wants of a broken document."""

    where: str
    on_error: Literal["raise", "skip"]

    def refuse(self, fault: Fault, *, id: str, input: str, start: int, stop: int) -> Raw:
        """Give the document without content, or raise a DataError that also says how to skip it."""
        if self.on_error == "raise":
            raise DataError(f"{fault}, or set {self.where}.on_error: skip") from fault
        return Raw(id=id, input=input, start=start, stop=stop, fault=fault.reason)


def checked_text(value: object, place: str) -> str:
    """Give a value back that is text and has a UTF-8 form; a Fault says which of the two it lacks."""
    if value is None:
        raise Fault("null", place=place, must="must hold text", got="null", cure="filter the input")
    if not isinstance(value, str):
        kind = type(value).__name__
        raise Fault("not_text", place=place, must="must hold text", got=kind, cure="name a field of text")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError as error:
            got = f"the lone surrogate \\u{ord(value[error.start]):04x} at character {error.start}"
            raise Fault(
                "surrogates", place=place, must="must be text that has a UTF-8 form", got=got,
                cure="mend the escape",
            ) from error  # fmt: skip
    return value


def checked_id(value: object, place: str) -> str:
    """Give an id, text or integer, as text."""
    if isinstance(value, str) and value:
        return checked_text(value, place)
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    raise Fault(
        "no_id", place=place, must="the id must be text or an integer",
        got="null" if value is None else repr(value)[:40], cure="name another id field, or none",
    )  # fmt: skip
