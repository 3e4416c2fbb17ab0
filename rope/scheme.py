"""How does a scheme turn what a model brings, its `Base`, into frequencies, and how is it found by name?

A scheme is a class of its own knobs in a file of its own under `schemes/`; `@scheme("name")` is all the
registration there is. The types of its knobs, `Annotated` with pydantic's constraints, are what every value
is checked against, whoever makes the scheme.
"""

from __future__ import annotations

import hashlib
import math
import struct
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from difflib import get_close_matches
from functools import wraps
from typing import Any, ClassVar, NamedTuple, Self, TypeVar, dataclass_transform

import numpy as np
import pydantic.dataclasses
from numpy.typing import NDArray
from pydantic import ConfigDict, ValidationError

from .knobs import LARGEST, LONGEST, MOST_CHANNELS, MOST_HEADS, checked, first_causes, shown, with_cure
from .knobs import Factor as Factor
from .knobs import Positive as Positive
from .knobs import RopeError as RopeError
from .knobs import Theta as Theta
from .knobs import Tokens as Tokens

SCHEMES: dict[str, type[Scheme]] = {}
S = TypeVar("S", bound="Scheme")
Array = NDArray[np.float64]


class NotExpressible(RopeError):  # noqa: N818
    """Hugging Face's `rope_parameters` have no words for this scheme."""


class Guess(NamedTuple):
    """One of the lengths that a config may mean."""

    length: int
    why: str


def listed(guesses: Iterable[Guess]) -> str:
    """Say which lengths it may be, and why."""
    return " or ".join(f"{length} ({why})" for length, why in guesses)


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
    guesses: tuple[Guess, ...] = ()
    """what original_length may be where nobody states it, first the one that readers compute from, which then
    stands there; empty: it is stated"""

    def __post_init__(self) -> None:
        """Refuse values no scheme could compute from."""
        if self.rotary_dim < 2 or self.rotary_dim % 2 or self.rotary_dim > self.head_dim:
            raise RopeError(
                f"base.rotary_dim: must be even, at least 2 and at most head_dim {self.head_dim}, "
                f"got {self.rotary_dim}; check head_dim and partial_rotary_factor of the config"
            )
        if not 1 < self.theta <= LARGEST:
            raise RopeError(
                f"base.theta: must be a number above 1, at most {LARGEST:g}, got {self.theta}; "
                "write the RoPE base the model was trained with, often 10000 or 500000"
            )
        for name in ("original_length", "trained_length"):
            check_window(name, getattr(self, name))
        if self.kv_heads < 1 or self.query_heads % self.kv_heads:
            raise RopeError(
                f"base.kv_heads: must divide the {self.query_heads} query heads, got {self.kv_heads}; "
                "check num_attention_heads and num_key_value_heads of the config"
            )
        limits = {"head_dim": MOST_CHANNELS, "kv_heads": MOST_HEADS, "query_heads": MOST_HEADS}
        for name, most in limits.items():
            if (got := getattr(self, name)) > most:
                raise RopeError(
                    f"base.{name}: must be at most {most}, got {got}; check head_dim, hidden_size and the "
                    "heads of the config"
                )

    @property
    def stated_length(self) -> int | None:
        """Return original_length where somebody states it."""
        return None if self.guesses else self.original_length

    def require_stated(self) -> None:
        """Refuse to compute new frequencies from a guess."""
        if self.guesses:
            raise RopeError(
                "config.original_max_position_embeddings: must be stated, since new frequencies are computed "
                f"from it and this model is scaled already ({self.current.name}), got what may mean "
                f"{listed(self.guesses)}; state original_length (a recipe's key, --original-length)"
            )

    def unscaled(self) -> Array:
        """Return theta^(-2i/d), radians a token, float64 [rotary_dim / 2] (Su et al., 2104.09864)."""
        return inverse_frequencies(self.theta, self.rotary_dim)


def check_window(name: str, tokens: object) -> None:
    """Refuse what is no window, in tokens."""
    if not isinstance(tokens, int) or isinstance(tokens, bool) or not 2 <= tokens <= LONGEST:
        raise RopeError(
            f"base.{name}: must be a whole number of at least 2 and at most {LONGEST} tokens, got "
            f"{shown(tokens)}; write the window in tokens"
        )


def inverse_frequencies(theta: float, rotary_dim: int) -> Array:
    """Return theta^(-2i/d) for i in [0, d/2), float64."""
    if rotary_dim > MOST_CHANNELS:
        raise RopeError(f"rotary_dim: must be at most {MOST_CHANNELS}, got {rotary_dim}; check head_dim")
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

    def theta_for(self, base: Base, target_length: int) -> float:
        """Return the base that the frequencies are computed from."""
        return base.theta

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


def _guarded(frequencies: Callable[..., Frequencies]) -> Callable[..., Frequencies]:
    """Refuse, whoever asks, what a scheme would compute from a guess or from a length without bound."""

    @wraps(frequencies)
    def guarded(self: Scheme, base: Base, *, target_length: int, length: int | None = None) -> Frequencies:
        for name, tokens in (("target_length", target_length), ("length", length)):
            if tokens is not None and not 0 <= tokens <= LONGEST:
                raise RopeError(
                    f"rope.{self.name}: {name} must be at most {LONGEST} tokens, got {tokens}; "
                    "write a window in tokens"
                )
        if self != base.current or target_length != base.trained_length:
            base.require_stated()
        found = frequencies(self, base, target_length=target_length, length=length)
        if not (np.isfinite(found.inv_freq) & (found.inv_freq > 0)).all():
            raise RopeError(
                f"rope.{self.name}: must give finite frequencies above 0, got {found.inv_freq.min():g} to "
                f"{found.inv_freq.max():g}; check theta and the knobs"
            )
        return found

    return guarded


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
        made.frequencies = _guarded(made.frequencies)
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
        problems = [with_cure(problem, cls) for problem in first_causes(error)]
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
