"""What does a reader make of a config.json? Which theta, frequencies, attention scale and window it will use.

A reader is a program that serves a model from a Hugging Face folder. It never sees our scheme, only the
fields of the config, and each has its own rules for them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from ..base import Base, RopeError, inverse_frequencies
from ..families import FULL
from ..scheme import Frequencies, make_scheme

Config = Mapping[str, Any]
"the fields of a config.json"


class CannotRead(RopeError):  # noqa: N818
    """The reader would stop with an error on this config."""


@dataclass(frozen=True, kw_only=True)
class Question:
    """Ask what happens in one kind of layer, with a server started in one way."""

    layer_type: str = FULL
    max_length: int | None = None
    "tokens the server is told to serve; None: it decides"
    tokenizer_length: float | None = None
    "model_max_length of tokenizer_config.json; None: not stated"


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What one reader computes from a config."""

    kind: str
    "the scaling in force, in transformers' words"
    theta: float
    rotary_dim: int
    window: int
    "tokens the reader accepts in one sequence"
    at: Callable[[int], Frequencies]
    "frequencies of a sequence of so many tokens that is served alone"
    factor: float | None = None
    rows: int | None = None
    "positions the reader has made angles for, where they end before the window"


@dataclass(frozen=True, kw_only=True)
class Reader:
    """One version of one program, and where its rules are."""

    engine: str
    version: str
    how: str
    "run: our reading is compared with the program's own, in a test; read: its source was read"
    sources: Mapping[str, str] = field(repr=False)
    "file of the program's source by kind of scaling, '' for all others"
    read: Callable[[Config, Question], Reading] = field(repr=False)
    max_length_flag: str = ""
    "how the served window is set when the program is started"

    @property
    def name(self) -> str:
        """Return engine and version."""
        return f"{self.engine} {self.version}"

    def ask(self, config: Config, question: Question) -> Reading:
        """Return what this reader computes; whatever error it would stop with is a CannotRead."""
        try:
            reading = self.read(config, question)
            reading.at(reading.window)
        except CannotRead:
            raise
        except RopeError as error:
            raise CannotRead(f"not followed, {error}") from error
        except Exception as error:
            raise CannotRead(f"{type(error).__name__}: {' '.join(str(error).split())}") from error
        return reading

    def source(self, kind: str) -> str:
        """Return where the rules for this kind of scaling are."""
        return self.sources.get(kind, self.sources[""])


@dataclass(frozen=True, kw_only=True)
class Given:
    """What a config states of one layer type, as a reader finds it, before any formula."""

    theta: float
    head_dim: int
    rotary_dim: int
    window: int
    "max_position_embeddings"
    parameters: Mapping[str, Any]

    def plain(self, theta: float | None = None, scale: float = 1.0) -> Frequencies:
        """Return the unscaled frequencies of the stated theta, or of another."""
        inv_freq = inverse_frequencies(theta or self.theta, self.rotary_dim)[None]
        return Frequencies(inv_freq=inv_freq, attention_scale=scale)

    def divided(self, divisors: Sequence[float] | float, scale: float = 1.0) -> Frequencies:
        """Return the unscaled frequencies divided one by one, or all by one number."""
        by = torch.tensor(divisors, dtype=torch.float64)
        if by.ndim and len(by) != self.rotary_dim // 2:
            raise CannotRead(f"{len(by)} divisors for {self.rotary_dim // 2} frequencies")
        return Frequencies(inv_freq=self.plain().inv_freq / by, attention_scale=scale)

    def grown(self, inner: float) -> Frequencies:
        """Return NTK's frequencies: theta times inner^(d / (d - 2))."""
        return self.plain(self.theta * inner ** (self.rotary_dim / (self.rotary_dim - 2)))

    def by_scheme(self, name: str, original_length: int, **knobs: Any) -> Frequencies:
        """Return what one of our schemes gives, for the readers that share its formula."""
        # Heads and the trained window enter no formula.
        base = Base(
            head_dim=self.head_dim, rotary_dim=self.rotary_dim, theta=self.theta,
            original_length=original_length, trained_length=original_length, query_heads=1, kv_heads=1,
            current=make_scheme("default"),
        )  # fmt: skip
        scheme = make_scheme(name, **knobs)
        return scheme.frequencies(base, target_length=original_length)

    def yarn(self, scale: float | None, *, truncate: bool | None = None) -> Frequencies:
        """Return YaRN with the stated factor, original length and betas."""
        stated = self.parameters
        return self.by_scheme(
            "yarn",
            int(needed(stated, "original_max_position_embeddings")),
            factor=needed(stated, "factor"),
            beta_fast=stated.get("beta_fast") or 32,
            beta_slow=stated.get("beta_slow") or 1,
            attention_scale=scale,
            truncate=stated.get("truncate", True) if truncate is None else truncate,
        )

    def llama3(self) -> Frequencies:
        """Return Llama 3.1's blend of the stated factor and bounds."""
        names = ("factor", "low_freq_factor", "high_freq_factor")
        original = needed(self.parameters, "original_max_position_embeddings")
        return self.by_scheme(
            "llama3", int(original), **{name: needed(self.parameters, name) for name in names}
        )

    def mscale(self, *, honour: bool = True) -> float:
        """Return YaRN's attention scale: stated and honoured, else by the mscale pair, else 0.1 ln s + 1."""
        stated, factor = self.parameters, needed(self.parameters, "factor")
        if honour and stated.get("attention_factor") is not None:
            return float(stated["attention_factor"])
        pair = stated.get("mscale"), stated.get("mscale_all_dim")
        if all(pair):
            return yarn_scale(factor, pair[0]) / yarn_scale(factor, pair[1])  # type: ignore[arg-type]
        return yarn_scale(factor)


def yarn_scale(factor: float, weight: float = 1.0) -> float:
    """Return 0.1 w ln s + 1 above a factor of 1 (2309.00071)."""
    return 0.1 * weight * math.log(factor) + 1.0 if factor > 1 else 1.0


def longrope_scale(factor: float, original_length: float) -> float:
    """Return sqrt(1 + ln s / ln L) above a factor of 1 (2402.13753)."""
    return math.sqrt(1 + math.log(factor) / math.log(original_length)) if factor > 1 else 1.0


def needed(stated: Mapping[str, Any], key: str) -> Any:
    """Return a value the reader cannot do without."""
    if stated.get(key) is None:
        raise CannotRead(f"no {key} for type {stated.get('rope_type', stated.get('type'))}")
    return stated[key]


def static(frequencies: Frequencies) -> Callable[[int], Frequencies]:
    """Return the same frequencies for every length."""
    return lambda length: frequencies
