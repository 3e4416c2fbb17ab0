"""How does a scheme turn a model's `Base` into frequencies, and how is it found by name?

A scheme is a frozen dataclass of its own knobs in a file of its own under `schemes/`; `@scheme("name")` is
all the registration there is.
"""

from __future__ import annotations

import hashlib
import math
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Self, TypeVar

from torch import Tensor, float64

from .base import Base, RopeError

SCHEMES: dict[str, type[Scheme]] = {}
S = TypeVar("S", bound="Scheme")


class NotExpressible(RopeError):  # noqa: N818
    """Hugging Face's `rope_parameters` have no words for this scheme."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Frequencies:
    """Hold what rotates: inverse frequencies (radians a token) and the one scalar on cos and sin."""

    inv_freq: Tensor
    "float64 [1 or kv_heads, rotary_dim / 2]"
    attention_scale: float = 1.0
    first_tokens: int = 0
    "positions below this rotate by `first_inv_freq`, unscaled (LongRoPE's n-hat, 2402.13753)"
    first_inv_freq: Tensor | None = None
    "float64, shaped as `inv_freq`; given exactly where `first_tokens` is above 0"

    def __post_init__(self) -> None:
        """Assert the shape and type that the rotation relies on."""
        assert self.inv_freq.dtype == float64, self.inv_freq.dtype
        assert self.inv_freq.ndim == 2, self.inv_freq.shape
        assert (self.first_tokens > 0) == (self.first_inv_freq is not None), self.first_tokens

    def stretch(self, base: Base) -> float:
        """Return unscaled / scaled inverse frequency at the lowest rotary frequency, median over heads."""
        return float(base.unscaled()[-1] / self.inv_freq[:, -1].quantile(0.5))

    @property
    def fingerprint(self) -> str:
        """Return the sha256 of every value, in hex."""
        digest = hashlib.sha256(struct.pack("<qqd", *self.inv_freq.shape, self.attention_scale))
        digest.update(_bytes(self.inv_freq))
        if self.first_inv_freq is not None:
            digest.update(struct.pack("<q", self.first_tokens) + _bytes(self.first_inv_freq))
        return digest.hexdigest()


def _bytes(values: Tensor) -> bytes:
    """Return float64 values as bytes that are the same on every machine."""
    return values.contiguous().cpu().numpy().astype("<f8").tobytes()


@dataclass(frozen=True, kw_only=True)
class Scheme:
    """Choose frequencies; subclasses hold their knobs as fields and override the three methods below."""

    name: ClassVar[str]
    hf_type: ClassVar[str | None] = None
    "the `rope_type` this scheme is written as and read from; None if it has none of its own"
    hf_keys: ClassVar[frozenset[str]] = frozenset()
    "keys of `rope_parameters` that `from_hf` understands beyond the common ones"
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
        """Read `rope_parameters`, with the factor written out."""
        raise NotImplementedError

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

    factor: float | None = None
    "times the original length; None: target_length / original_length"

    def __post_init__(self) -> None:
        """Check the factor."""
        if self.factor is not None:
            check_number(
                f"rope.{self.name}.factor", self.factor, at_least=1, cure="leave it out to derive it"
            )

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


def check_number(
    where: str, value: Any, *, at_least: float | None = None, above: float | None = None, cure: str
) -> None:
    """Raise RopeError unless `value` is a finite number within the bound."""
    bound = f"of at least {at_least}" if above is None else f"above {above}"
    number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    high = number and (above is None or value > above) and (at_least is None or value >= at_least)
    if not high:
        raise RopeError(f"{where}: must be a finite number {bound}, got {value!r}; {cure}")


def scheme(name: str) -> Callable[[type[S]], type[S]]:
    """Register the decorated class under `name`."""

    def register(cls: type[S]) -> type[S]:
        if name in SCHEMES:
            raise RopeError(
                f"rope.{name}: must be registered once, got {SCHEMES[name].__module__} and {cls.__module__}; "
                "rename one, and import the package only as ropewalk.rope"
            )
        cls.name = name
        SCHEMES[name] = cls
        return cls

    return register


def validate_scheme(name: str, knobs: Mapping[str, Any]) -> Scheme:
    """Return the scheme `name` with the knobs of a recipe."""
    return make_scheme(name, **knobs)


def make_scheme(name: str, **knobs: Any) -> Scheme:
    """Return the scheme `name` with these knobs; unknown names and knobs are refused with the known ones."""
    if name not in SCHEMES:
        raise RopeError(
            f"rope.kind: must be a known scheme, got {name!r}; use one of {', '.join(sorted(SCHEMES))}"
        )
    cls = SCHEMES[name]
    known = [field.name for field in fields(cls)]
    unknown = sorted(set(knobs) - set(known))
    if unknown:
        has = f"{name} has {', '.join(known)}" if known else f"{name} has no knobs"
        raise RopeError(f"rope.{name}: must be given only knobs it has, got {', '.join(unknown)}; {has}")
    return cls(**knobs)
