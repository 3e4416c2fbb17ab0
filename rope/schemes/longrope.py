"""LongRoPE: divide each frequency by a searched factor of its own (Ding et al., 2402.13753; 2502.20082).

theta_i / lambda_i, where lambda is found by search (`ropewalk rope search`) or published; cos and sin times
sqrt(1 + ln s / ln L). Without factors, LongRoPE2's start of the search: s from the critical pair on, whose
wavelength is the original window, and s^(i / critical pair) before it, which is NTK with its knee there.
"""

import os
from collections.abc import Mapping
from typing import Any, Self

import numpy as np
from pydantic import Field, model_validator
from pydantic_core import ArgsKwargs

from ..analysis import critical_dimension
from ..factors import Count, Divisors, check_divisors, read_factors
from ..hf import ROPE_TYPE, container, longrope_scale
from ..scheme import Base, Factored, Frequencies, NotExpressible, Positive, RopeError, scheme

ROUNDED = 12 / 13
"least divisor that rounding a wavelength to whole tokens can give: 6.5 tokens become 6"


@scheme("longrope")
class LongRope(Factored):
    """Rotate by theta_i / lambda_i, cos and sin times the attention scale."""

    hf_type = ROPE_TYPE
    hf_keys = frozenset({"factor", "short_factor", "long_factor"}) | {
        "attention_factor",
        "short_mscale",
        "long_mscale",
    }
    stretch_knob = None

    factors: Divisors | None = Field(default=None, description="name a factor file or list divisors")
    "lambda [rotary_dim / 2], as a list or the path of a factor file; None: s^min(1, i / critical pair)"
    short_factors: Divisors | None = None
    "lambda up to original_length tokens, list or path; None: `factors` hold at every length"
    first_tokens: Count = 0
    "positions below this rotate unscaled; 0: as many as the factor file says"
    attention_scale: Positive | None = None
    "scalar on cos and sin at every length; None: the factor file's, else sqrt(1 + ln s / ln L)"
    rounded: bool = False
    "wavelengths were rounded to whole tokens, so that factors down to 0.92 are no mistake"
    theta: Positive | None = None
    "base of the model the factors are for; another is refused"
    original_length: Positive | None = None
    "tokens; original length of the model the factors are for; another is refused"

    @model_validator(mode="before")
    @classmethod
    def _read_files(cls, given: ArgsKwargs) -> dict[str, Any]:
        """Put the values of files in their place, so that a checkpoint needs no file; what is stated wins."""
        knobs = dict(given.kwargs or {})
        if _is_path(knobs.get("factors")):
            file = read_factors(knobs["factors"])
            names = ("first_tokens", "attention_scale", "theta", "original_length")
            held = {"short_factors": file.short} | {name: getattr(file, name) for name in names}
            knobs |= {name: knobs.get(name) or value for name, value in held.items()}
            knobs["factors"] = file.long
        if _is_path(knobs.get("short_factors")):
            knobs["short_factors"] = read_factors(knobs["short_factors"]).long
        return knobs

    def __post_init__(self) -> None:
        """Refuse divisors that shorten a wavelength by more than rounding does."""
        for name in ("factors", "short_factors"):
            at_least = ROUNDED if self.rounded else 1
            check_divisors(f"rope.longrope.{name}", getattr(self, name) or (), at_least=at_least)

    @property
    def depends_on_length(self) -> bool:
        """Switch where short factors are given."""
        return self.short_factors is not None

    def divisors(self, base: Base, *, target_length: int, length: int) -> tuple[float, ...]:
        """Return lambda [rotary_dim / 2] for a sequence of `length` tokens."""
        self._check_model(base)
        if self.short_factors is not None and length <= base.original_length:
            return self.short_factors
        return self.factors or _start(base, self.factor_for(base, target_length))

    def frequencies(self, base: Base, *, target_length: int, length: int | None = None) -> Frequencies:
        """Return the divided frequencies of the length's regime, the attention scale in both."""
        at = target_length if length is None else length
        divisors = self.divisors(base, target_length=target_length, length=at)
        unscaled = base.unscaled()[None]
        return Frequencies(
            inv_freq=unscaled / np.array(divisors, dtype=np.float64),
            attention_scale=self.scale_for(base, self.factor_for(base, target_length)),
            first_tokens=self.first_tokens,
            first_inv_freq=unscaled if self.first_tokens else None,
        )

    def scale_for(self, base: Base, factor: float) -> float:
        """Return the attention scale in force at this factor."""
        stated = self.attention_scale
        return longrope_scale(factor, base.original_length) if stated is None else float(stated)

    def to_hf(self, base: Base, *, target_length: int) -> dict[str, Any]:
        """Write both lists, the factor and the attention scale."""
        if self.first_tokens:
            raise NotExpressible(
                f"rope.longrope.first_tokens: must be 0 to be served, got {self.first_tokens}; no reader "
                "keeps the first tokens unscaled, search without them or serve it with ropewalk.rope.install"
            )
        factor = self.factor_for(base, target_length)
        ends = (base.original_length, max(target_length, base.original_length + 1))
        short, long = (self.divisors(base, target_length=target_length, length=end) for end in ends)
        return container(
            base,
            long_factors=long,
            short_factors=short,
            attention_scale=self.scale_for(base, factor),
            factor=factor,
        )

    @classmethod
    def from_hf(cls, parameters: Mapping[str, Any], *, original_length: int, trained_length: int) -> Self:
        """Read as transformers does; equal lists mean one regime."""
        long, short = parameters.get("long_factor"), parameters.get("short_factor")
        if long is None or short is None:
            raise RopeError(
                "config.rope_parameters: longrope must state short_factor and long_factor, got "
                f"{', '.join(sorted(parameters))}; complete the config"
            )
        return cls(
            factor=parameters.get("factor") or max(1.0, trained_length / original_length),
            factors=long,
            short_factors=None if short == long else short,
            attention_scale=parameters.get("attention_factor"),
            rounded=min(*long, *short) < 1,
        )

    def _check_model(self, base: Base) -> None:
        """Refuse factors of another model."""
        for name in ("theta", "original_length"):
            made_for, has = getattr(self, name), getattr(base, name)
            if made_for not in (None, has):
                raise RopeError(
                    f"rope.longrope.{name}: must be the model's, {has}, got factors made for {made_for}; "
                    "use factors searched for this model"
                )
        for name in ("factors", "short_factors"):
            held = getattr(self, name)
            if held is not None and len(held) != base.rotary_dim // 2:
                raise RopeError(
                    f"rope.longrope.{name}: must hold rotary_dim / 2 = {base.rotary_dim // 2} values, "
                    f"got {len(held)}; use factors searched for this model"
                )


def _start(base: Base, factor: float) -> tuple[float, ...]:
    """Return LongRoPE2's first vector, at the theoretical critical dimension (2502.20082, algorithm 1)."""
    pairs = base.rotary_dim // 2
    critical = max(min(critical_dimension(base) // 2, pairs - 1), 1)
    return tuple(factor ** min(pair / critical, 1.0) for pair in range(pairs))


def _is_path(value: Any) -> bool:
    """Say whether a knob names a file."""
    return isinstance(value, str | os.PathLike)
