"""Which numbers may a knob or a config hold, and how is a wrong one said?

Every number has a bound before anything is computed from it: no list is made, and no loop run, over a head of
10^30 channels. The bounds are far above what any model has.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import MISSING, fields
from typing import Annotated, Any

from pydantic import Field, ValidationError, ValidatorFunctionWrapHandler, WrapValidator
from pydantic_core import ErrorDetails, InitErrorDetails, PydanticCustomError

LONGEST = 2**30
"tokens of a window"
MOST_CHANNELS, MOST_HEADS, MOST_LAYERS = 1024, 512, 4096
"of a head, a layer and a model"
LARGEST = 1e40
"real number"


class RopeError(ValueError):
    """A setting, config or model that cannot be used, with what must hold and how to get there."""


def _as_given(value: Any, check: ValidatorFunctionWrapHandler) -> Any:
    """Keep 8 as 8: knobs are hashed as they are written, and 8.0 would be another fingerprint."""
    check(value)
    return value


AsGiven = WrapValidator(_as_given)
Positive = Annotated[float, Field(gt=0, le=LARGEST, allow_inf_nan=False), AsGiven]
Factor = Annotated[float, Field(ge=1, le=LARGEST, allow_inf_nan=False), AsGiven]
Theta = Annotated[float, Field(gt=1, le=LARGEST, allow_inf_nan=False), AsGiven]
Tokens = Annotated[int, Field(ge=1, le=LONGEST)]


def shown(value: object) -> str:
    """Show a value in a message without flooding it."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


@contextmanager
def checked(cls: type, *, where: str = "") -> Iterator[None]:
    """Raise what pydantic finds wrong with the fields of a class as one RopeError, a line a problem."""
    try:
        yield
    except ValidationError as error:
        raise RopeError("\n".join(_said(where, problem, cls) for problem in first_causes(error))) from error


def _said(where: str, problem: ErrorDetails, cls: type) -> str:
    """Say where, what must hold, the value and the cure."""
    cause = problem.get("ctx", {}).get("error")
    if isinstance(cause, RopeError):
        return str(cause)
    knob, *place = problem["loc"]
    at = "".join(f"[{part}]" for part in place if isinstance(part, int))
    must, cure = _must_and_cure(problem, cls)
    return f"{where}{knob}{at}: {must}, got {shown(problem['input'])}; {cure}"


def first_causes(error: ValidationError) -> list[ErrorDetails]:
    """Leave out that a list is too short where only its wrong items make it so."""
    return [one for one in error.errors() if one["type"] != "too_short" or not one["input"]]


def with_cure(problem: ErrorDetails, cls: type) -> InitErrorDetails:
    """Take over one of pydantic's problems with its cure; a number in quotes gets the recipe's own."""
    kind: Any = problem["type"]
    in_quotes = kind in ("int_type", "float_type") and isinstance(problem["input"], str)
    if not in_quotes and kind != "value_error":
        must, cure = _must_and_cure(problem, cls)
        kind = PydanticCustomError("knob", "{must}", {"must": must, "cure": cure})
    place = tuple(part for at, part in enumerate(problem["loc"]) if at == 0 or isinstance(part, int))
    return InitErrorDetails(type=kind, loc=place, input=problem["input"], ctx=problem.get("ctx", {}))


def _must_and_cure(problem: ErrorDetails, cls: type) -> tuple[str, str]:
    """Say what must hold in words of ours; a field's `description` is its cure, else what is usual."""
    knob = str(problem["loc"][0])
    must = problem["msg"].partition("should ")[2].replace("a valid ", "a ").replace("a tuple", "a list")
    usual = {field.name: field.default for field in fields(cls)}[knob]
    cure = "leave it out to derive it" if usual is None else f"usually {str(usual).lower()}"
    if usual is MISSING:
        cure = "list the numbers"
    stated = getattr(cls, "__pydantic_fields__", {}).get(knob)
    return f"must {must}".replace("a integer", "an integer"), getattr(stated, "description", None) or cure
