"""What does a reader make of a config.json? Which theta, frequencies, attention scale and window it will use.

A reader is a program that serves a model from a Hugging Face folder. It never sees our scheme, only the
fields of the config, and each has its own rules for them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..families import FULL
from ..hf import longrope_scale
from ..scheme import Base, Frequencies, RopeError, inverse_frequencies, make_scheme
from ..schemes.yarn import scale_at, stated_scale

ORIGINAL = "original_max_position_embeddings"
LAYOUTS = ("rope_parameters", "rope_scaling")
"where a config states its rope, the newer layout first"
OLDER_NAMES = ("su", "yarn")
"what Phi-3's first configs called longrope"
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
    "run: the program's own code is asked; read: our rules are, which were read in its source"
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
            for length in (1, reading.window):
                reading.at(length)
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
    """What a config states of one layer type, as a reader finds it, and the formulas that readers share."""

    theta: float
    head_dim: int
    rotary_dim: int
    window: int
    "max_position_embeddings"
    parameters: Mapping[str, Any]
    top_original: int | None = None
    "original_max_position_embeddings at the top level"

    @property
    def kind(self) -> str:
        """Return the rope_type."""
        return str(self.parameters["rope_type"])

    def needed(self, key: str) -> Any:
        """Return a parameter the reader cannot do without."""
        return needed(self.parameters, key)

    @property
    def original(self) -> int:
        """Return the original length, which must be stated."""
        return int(self.needed(ORIGINAL))

    def plain(self, theta: float | None = None, scale: float = 1.0) -> Frequencies:
        """Return the unscaled frequencies of the stated theta, or of another."""
        inv_freq = inverse_frequencies(theta or self.theta, self.rotary_dim)[None]
        return Frequencies(inv_freq=inv_freq, attention_scale=scale)

    def divided(self, divisors: Sequence[float] | float, scale: float = 1.0) -> Frequencies:
        """Return the unscaled frequencies divided one by one, or all by one number."""
        by = np.array(divisors, dtype=np.float64)
        if by.ndim and len(by) != self.rotary_dim // 2:
            raise CannotRead(f"{len(by)} divisors for {self.rotary_dim // 2} frequencies")
        return Frequencies(inv_freq=self.plain().inv_freq / by, attention_scale=scale)

    def grown(self, times: float) -> Frequencies:
        """Return dynamic NTK's frequencies at `times` the window: theta (s t - (s - 1))^(d / (d - 2))."""
        factor = self.needed("factor")
        return self.raised(factor * times - (factor - 1))

    def raised(self, inner: float) -> Frequencies:
        """Return NTK's frequencies: theta times inner^(d / (d - 2))."""
        return self.plain(self.theta * inner ** (self.rotary_dim / (self.rotary_dim - 2)))

    def by_scheme(self, name: str, **knobs: Any) -> Frequencies:
        """Return what one of our schemes gives, for the readers that share its formula."""
        # Heads and the trained window enter no formula.
        base = Base(
            head_dim=self.head_dim, rotary_dim=self.rotary_dim, theta=self.theta,
            original_length=self.original, trained_length=self.original, query_heads=1, kv_heads=1,
            current=make_scheme("default"),
        )  # fmt: skip
        return make_scheme(name, **knobs).frequencies(base, target_length=self.original)

    def yarn(self, scale: float | None, *, truncate: bool | None = None) -> Frequencies:
        """Return YaRN with the stated factor, original length and betas."""
        stated = self.parameters
        return self.by_scheme(
            "yarn",
            factor=self.needed("factor"),
            beta_fast=stated.get("beta_fast") or 32,
            beta_slow=stated.get("beta_slow") or 1,
            attention_scale=scale,
            truncate=stated.get("truncate", True) if truncate is None else truncate,
        )

    def llama3(self) -> Frequencies:
        """Return Llama 3.1's blend of the stated factor and bounds."""
        names = ("factor", "low_freq_factor", "high_freq_factor")
        return self.by_scheme("llama3", **{name: self.needed(name) for name in names})

    def yarn_scale(self, *, honour: bool = True) -> float:
        """Return YaRN's attention scale: stated and honoured, else by the mscale pair, else 0.1 ln s + 1."""
        factor = self.needed("factor")
        scale = stated_scale(self.parameters, factor, honour=honour)
        return scale_at(factor) if scale is None else float(scale)

    def longrope(self, regime: str, *, honour: bool = True) -> Frequencies:
        """Return the long or the short set as engines scale it: by its own mscale, if that is honoured."""
        scale = self.parameters.get(f"{regime}_mscale") if honour else None
        scale = scale or longrope_scale(self.window / self.original, self.original)
        return self.divided(self.needed(f"{regime}_factor"), float(scale))

    def linear(self) -> Frequencies:
        """Return linear scaling as vLLM and SGLang do it: a factor of 4 in JSON is an error, 4.0 is none."""
        factor = self.needed("factor")
        if not isinstance(factor, float):
            raise CannotRead(
                f"TypeError: 'int' object is not iterable (factor {factor}, not {float(factor)})"
            )
        return self.divided(factor)

    def reading(self, at: Callable[[int], Frequencies], **more: Any) -> Reading:
        """Return a reading of what is stated, and `more`."""
        facts = {"kind": self.kind, "theta": self.theta, "rotary_dim": self.rotary_dim}
        facts |= {"window": self.window, "factor": self.parameters.get("factor"), "at": at}
        return Reading(**facts | more)


def needed(stated: Mapping[str, Any], key: str) -> Any:
    """Return a value the reader cannot do without."""
    if stated.get(key) is None:
        raise CannotRead(f"no {key} for type {stated.get('rope_type', stated.get('type'))}")
    return stated[key]


def within(longest: int, question: Question) -> int | None:
    """Return the tokens a server asks for, which an engine refuses beyond what it derives from the config."""
    if question.max_length is not None and question.max_length > longest:
        raise CannotRead(
            f"ValueError: {question.max_length} tokens asked for, {longest} derived from the config"
        )
    return question.max_length


def static(frequencies: Frequencies) -> Callable[[int], Frequencies]:
    """Return the same frequencies for every length."""
    return lambda length: frequencies
