"""LongRoPE: divide each frequency by a searched factor of its own (Ding et al., 2402.13753; 2502.20082).

theta_i / lambda_i, where lambda is found by search (`ropewalk rope search`) or published; cos and sin times
sqrt(1 + ln s / ln L). Without factors, LongRoPE2's start of the search: s from the critical pair on, whose
wavelength is the original window, and s^(i / critical pair) before it, which is NTK with its knee there.
"""

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import torch

from ..analysis import critical_dimension
from ..base import Base, RopeError
from ..container import ROPE_TYPE, container
from ..factors import Factors, check_first_tokens, divisor_tuple, read_factors
from ..scheme import Factored, Frequencies, NotExpressible, check_number, scheme

ROUNDED = 12 / 13
"least divisor that rounding a wavelength to whole tokens can give: 6.5 tokens become 6"


@scheme("longrope")
@dataclass(frozen=True, kw_only=True)
class LongRope(Factored):
    """Rotate by theta_i / lambda_i, cos and sin times the attention scale."""

    hf_type = ROPE_TYPE
    hf_keys = frozenset({"factor", "short_factor", "long_factor"}) | {
        "attention_factor",
        "short_mscale",
        "long_mscale",
    }
    stretch_knob = None

    factors: tuple[float, ...] | None = None
    "lambda [rotary_dim / 2], as a list or the path of a factor file; None: s^min(1, i / critical pair)"
    short_factors: tuple[float, ...] | None = None
    "lambda up to original_length tokens, list or path; None: `factors` hold at every length"
    first_tokens: int = 0
    "positions below this rotate unscaled; 0: as many as the factor file says"
    attention_scale: float | None = None
    "scalar on cos and sin at every length; None: the factor file's, else sqrt(1 + ln s / ln L)"
    rounded: bool = False
    "wavelengths were rounded to whole tokens, so that factors down to 0.92 are no mistake"
    theta: float | None = None
    "base of the model the factors are for; another is refused"
    original_length: int | None = None
    "tokens; original length of the model the factors are for; another is refused"

    def __post_init__(self) -> None:
        """Put the values of files in their place, and check every knob."""
        super().__post_init__()
        long: Any = self.factors
        short: Any = self.short_factors
        if _is_path(long):
            self._fill(read_factors(long))
        if _is_path(short):
            object.__setattr__(self, "short_factors", read_factors(short).long)
        for name in ("factors", "short_factors"):
            if (held := getattr(self, name)) is not None:
                at_least = ROUNDED if self.rounded else 1
                held = divisor_tuple(f"rope.longrope.{name}", held, at_least=at_least)
                object.__setattr__(self, name, held)
        if not isinstance(self.rounded, bool):
            raise RopeError(
                f"rope.longrope.rounded: must be true or false, got {self.rounded!r}; usually false"
            )
        check_first_tokens("rope.longrope.first_tokens", self.first_tokens)
        for name in ("attention_scale", "theta", "original_length"):
            if (value := getattr(self, name)) is not None:
                check_number(f"rope.longrope.{name}", value, above=0, cure="leave it out to derive it")

    def _fill(self, file: Factors) -> None:
        """Take from a factor file what is not stated, so that a checkpoint needs no file."""
        held = {"short_factors": file.short, "first_tokens": file.first_tokens}
        held |= {name: getattr(file, name) for name in ("attention_scale", "theta", "original_length")}
        object.__setattr__(self, "factors", file.long)
        for name, value in held.items():
            object.__setattr__(self, name, getattr(self, name) or value)

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
            inv_freq=unscaled / torch.tensor(divisors, dtype=torch.float64, device="cpu"),
            attention_scale=self.scale_for(base, self.factor_for(base, target_length)),
            first_tokens=self.first_tokens,
            first_inv_freq=unscaled if self.first_tokens else None,
        )

    def scale_for(self, base: Base, factor: float) -> float:
        """Return the attention scale in force at this factor."""
        if self.attention_scale is not None:
            return float(self.attention_scale)
        return math.sqrt(1 + math.log(factor) / math.log(base.original_length)) if factor > 1 else 1.0

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
