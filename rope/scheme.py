"""How does a scheme turn what a model brings, its `Base`, into frequencies, and how is it found by name?

A scheme is a class of its own knobs in a file of its own under `schemes/`; `@scheme("name")` is all the
registration there is. The types of its knobs, `Annotated` with pydantic's constraints, are what every value
is checked against, whoever makes the scheme.
"""

from __future__ import annotations

import hashlib
import math
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import MISSING, dataclass, fields
from difflib import get_close_matches
from typing import Annotated, Any, ClassVar, Self, TypeVar, dataclass_transform

import numpy as np
import pydantic.dataclasses
from numpy.typing import NDArray
from pydantic import ConfigDict, ValidationError, ValidatorFunctionWrapHandler, WrapValidator
from pydantic import Field as Bound
from pydantic_core import ErrorDetails, InitErrorDetails, PydanticCustomError

SCHEMES: dict[str, type[Scheme]] = {}
S = TypeVar("S", bound="Scheme")
Array = NDArray[np.float64]


class RopeError(ValueError):
    """A setting, config or model that cannot be used, with what must hold and how to get there."""


class NotExpressible(RopeError):  # noqa: N818
    """Hugging Face's `rope_parameters` have no words for this scheme."""


def _as_given(value: Any, check: ValidatorFunctionWrapHandler) -> Any:
    """Keep 8 as 8: knobs are hashed as they are written, and 8.0 would be another fingerprint."""
    check(value)
    return value


AsGiven = WrapValidator(_as_given)
Positive = Annotated[float, Bound(gt=0, allow_inf_nan=False), AsGiven]
Factor = Annotated[float, Bound(ge=1, allow_inf_nan=False), AsGiven]
Theta = Annotated[float, Bound(gt=1, allow_inf_nan=False), AsGiven]
Tokens = Annotated[int, Bound(ge=1)]


@dataclass(frozen=True, kw_only=True)
class Base:
    """Describe the rotary position encoding of one layer type, before any scheme."""

    head_dim: int
    "channels of one attention head"
    rotary_dim: int
    "channels of a head that rotate (even, at most head_dim); the rest carry no position"
    theta: float
    "RoPE base of the unscaled frequencies"
    original_length: int
    "tokens; the window in which the unscaled frequencies were pretrained"
    trained_length: int
    "tokens; the window the weights were last trained at"
    query_heads: int
    kv_heads: int
    window: int | None = None
    "tokens that a layer of this type sees, its own included; None: all"
    current: Scheme
    "the scheme the model carries, its factor written out"

    def __post_init__(self) -> None:
        """Refuse values no scheme could compute from."""
        if self.rotary_dim < 2 or self.rotary_dim % 2 or self.rotary_dim > self.head_dim:
            raise RopeError(
                f"base.rotary_dim: must be even, at least 2 and at most head_dim {self.head_dim}, "
                f"got {self.rotary_dim}; check head_dim and partial_rotary_factor of the config"
            )
        if not 1 < self.theta < float("inf"):
            raise RopeError(
                f"base.theta: must be a finite number above 1, got {self.theta}; "
                "write the RoPE base the model was trained with, often 10000 or 500000"
            )
        for name in ("original_length", "trained_length"):
            if (got := getattr(self, name)) < 1:
                raise RopeError(
                    f"base.{name}: must be at least 1 token, got {got}; write the window in tokens"
                )
        if self.kv_heads < 1 or self.query_heads % self.kv_heads:
            raise RopeError(
                f"base.kv_heads: must divide the {self.query_heads} query heads, got {self.kv_heads}; "
                "check num_attention_heads and num_key_value_heads of the config"
            )

    def unscaled(self) -> Array:
        """Return theta^(-2i/d), radians a token, float64 [rotary_dim / 2] (Su et al., 2104.09864)."""
        return inverse_frequencies(self.theta, self.rotary_dim)


def inverse_frequencies(theta: float, rotary_dim: int) -> Array:
    """Return theta^(-2i/d) for i in [0, d/2), float64."""
    # One scalar power at a time: a vectorised one's last bit, and so the fingerprint, depends on the machine.
    return np.array([float(theta) ** (-2 * i / rotary_dim) for i in range(rotary_dim // 2)])


@dataclass(frozen=True, kw_only=True, eq=False)
class Frequencies:
    """Hold what rotates: inverse frequencies (radians a token) and the one scalar on cos and sin."""

    inv_freq: Array
    "float64 [1 or kv_heads, rotary_dim / 2]"
    attention_scale: float = 1.0
    first_tokens: int = 0
    "positions below this rotate by `first_inv_freq`, unscaled (LongRoPE's n-hat, 2402.13753)"
    first_inv_freq: Array | None = None
    "float64, shaped as `inv_freq`; given exactly where `first_tokens` is above 0"

    def __post_init__(self) -> None:
        """Assert the shape and type that the rotation relies on."""
        assert isinstance(self.inv_freq, np.ndarray), type(self.inv_freq)
        assert self.inv_freq.dtype == np.float64, self.inv_freq.dtype
        assert self.inv_freq.ndim == 2, self.inv_freq.shape
        assert (self.first_tokens > 0) == (self.first_inv_freq is not None), self.first_tokens

    def stretch(self, base: Base) -> float:
        """Return unscaled / scaled inverse frequency at the lowest rotary frequency, median over heads."""
        return float(base.unscaled()[-1] / np.median(self.inv_freq[:, -1]))

    @property
    def fingerprint(self) -> str:
        """Return the sha256 of every value, in hex."""
        digest = hashlib.sha256(struct.pack("<qqd", *self.inv_freq.shape, self.attention_scale))
        digest.update(self.inv_freq.astype("<f8").tobytes())
        if self.first_inv_freq is not None:
            digest.update(struct.pack("<q", self.first_tokens) + self.first_inv_freq.astype("<f8").tobytes())
        return digest.hexdigest()


@dataclass(frozen=True, kw_only=True)
class Scheme:
    """Choose frequencies; subclasses hold their knobs as fields and override the three methods below."""

    name: ClassVar[str]
    hf_type: ClassVar[str | None] = None
    "the `rope_type` this scheme is written as and read from; None if it has none of its own"
    hf_keys: ClassVar[frozenset[str]] = frozenset()
    "keys of `rope_parameters` that `from_hf` understands beyond the common ones"
    hf_needed: ClassVar[bool] = False
    "every one of `hf_keys` must be stated, because transformers requires it"
    training_free: ClassVar[bool] = False
    "meant for weights that were never trained with it"
    stretch_knob: ClassVar[str | None] = None
    "the number among the knobs that sets the stretch; None where the scheme runs only as published"

    @property
    def knobs(self) -> dict[str, Any]:
        """Return every knob with its value."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @property
    def depends_on_length(self) -> bool:
        """Say whether `frequencies` differ with the `length` of the sequence at hand."""
        return False

    def frequencies(self, base: Base, *, target_length: int, length: int | None = None) -> Frequencies:
        """Return the frequencies for `target_length` tokens.

        `length` (tokens) is that of the whole sequence a token stands in, its attention group or its own
        request; None means `target_length`.
        """
        raise NotImplementedError

    def to_hf(self, base: Base, *, target_length: int) -> dict[str, Any]:
        """Return transformers 5 `rope_parameters` that give these frequencies, or raise NotExpressible."""
        raise NotExpressible(
            f"rope.{self.name}: must be a scheme that rope_parameters can express, got {self.knobs}; "
            "export it with a scheme of its own reader"
        )

    def hf_window(self, base: Base, *, target_length: int) -> int:
        """Return the `max_position_embeddings` that readers compute these frequencies from."""
        return target_length

    @classmethod
    def from_hf(cls, parameters: Mapping[str, Any], *, original_length: int, trained_length: int) -> Self:
        """Read `rope_parameters`, with the factor written out: here, the knobs that `hf_keys` names."""
        stated = {key: parameters[key] for key in cls.hf_keys if parameters.get(key) is not None}
        if missing := sorted(cls.hf_keys - set(stated)) * cls.hf_needed:
            raise RopeError(
                f"config.rope_parameters: {cls.hf_type} must state {', '.join(sorted(cls.hf_keys))}, got no "
                f"{', '.join(missing)}; complete the config"
            )
        return cls(**stated)

    def written(self, base: Base, *, theta: float | None = None, **more: Any) -> dict[str, Any]:
        """Return the `rope_parameters` every scheme shares, then `more`."""
        parameters = {"rope_type": self.hf_type or "default", "rope_theta": float(theta or base.theta)}
        if base.rotary_dim != base.head_dim:
            share = base.rotary_dim / base.head_dim
            # Readers take int(head_dim * share): a share rounded down would lose a channel.
            exact = int(base.head_dim * share) == base.rotary_dim
            parameters["partial_rotary_factor"] = share if exact else math.nextafter(share, 1.0)
        return parameters | more


@dataclass(frozen=True, kw_only=True)
class Factored(Scheme):
    """Stretch by a factor: the one stated, else target_length / original_length."""

    stretch_knob = "factor"

    factor: Factor | None = None
    "times the original length; None: target_length / original_length"

    def factor_for(self, base: Base, target_length: int) -> float:
        """Return the factor in force, at least 1."""
        return float(target_factor(self.name, base, target_length) if self.factor is None else self.factor)


def target_factor(name: str, base: Base, target_length: int) -> float:
    """Return target_length / original_length, refusing to shrink the window."""
    if target_length < base.original_length:
        raise RopeError(
            f"rope.{name}: target_length must be at least original_length {base.original_length} tokens, "
            f"got {target_length}; use the default scheme to keep the window"
        )
    return target_length / base.original_length


@dataclass_transform(frozen_default=True, kw_only_default=True)
def scheme(name: str) -> Callable[[type[S]], type[S]]:
    """Register the decorated class under `name`, a frozen dataclass that checks its knobs by their types."""

    def register(cls: type[S]) -> type[S]:
        if name in SCHEMES:
            raise RopeError(
                f"rope.{name}: must be registered once, got {SCHEMES[name].__module__} and {cls.__module__}; "
                "rename one, and import the package only as ropewalk.rope"
            )
        config = ConfigDict(strict=True, extra="forbid")
        made: Any = pydantic.dataclasses.dataclass(cls, frozen=True, kw_only=True, config=config)
        made.name = name
        SCHEMES[name] = made
        return made

    return register


def validate_scheme(name: str, knobs: Mapping[str, Any]) -> Scheme:
    """Return the scheme `name` with these knobs.

    Unknown names and knobs are a RopeError that lists the known ones; pydantic's ValidationError holds all
    that is wrong with the others, each at its knob, with the cure in its context.
    """
    cls = _scheme_with(name, knobs)
    try:
        return cls(**knobs)
    except ValidationError as error:
        problems = [_with_cure(problem, cls) for problem in _first_causes(error)]
        raise ValidationError.from_exception_data(name, problems) from None


def make_scheme(name: str, **knobs: Any) -> Scheme:
    """Return the scheme `name` with these knobs; all that is wrong with them is one RopeError."""
    cls = _scheme_with(name, knobs)
    with checked(cls, where=f"rope.{name}."):
        return cls(**knobs)


def _scheme_with(name: str, knobs: Iterable[str]) -> type[Scheme]:
    """Return the class of a scheme that has these knobs."""
    if name not in SCHEMES:
        raise RopeError(
            f"rope.kind: must be a known scheme, got {name!r}; use one of {', '.join(sorted(SCHEMES))}"
        )
    known = [field.name for field in fields(SCHEMES[name])]
    unknown = sorted(set(knobs) - set(known))
    if unknown:
        has = f"{name} has {', '.join(known)}" if known else f"{name} has no knobs"
        if close := get_close_matches(unknown[0], known, n=1):
            has = f"did you mean {close[0]!r}? {has}"
        raise RopeError(f"rope.{name}: must be given only knobs it has, got {', '.join(unknown)}; {has}")
    return SCHEMES[name]


@contextmanager
def checked(cls: type, *, where: str = "") -> Iterator[None]:
    """Raise what pydantic finds wrong with the fields of a class as one RopeError, a line a problem."""
    try:
        yield
    except ValidationError as error:
        raise RopeError("\n".join(_said(where, problem, cls) for problem in _first_causes(error))) from error


def _said(where: str, problem: ErrorDetails, cls: type) -> str:
    """Say where, what must hold, the value and the cure."""
    cause = problem.get("ctx", {}).get("error")
    if isinstance(cause, RopeError):
        return str(cause)
    knob, *place = problem["loc"]
    at = "".join(f"[{part}]" for part in place if isinstance(part, int))
    must, cure = _must_and_cure(problem, cls)
    return f"{where}{knob}{at}: {must}, got {problem['input']!r}; {cure}"


def _first_causes(error: ValidationError) -> list[ErrorDetails]:
    """Leave out that a list is too short where only its wrong items make it so."""
    return [one for one in error.errors() if one["type"] != "too_short" or not one["input"]]


def _with_cure(problem: ErrorDetails, cls: type) -> InitErrorDetails:
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
