"""Where do LongRoPE's divisors come from? A file of our own search, or a CSV as published.

Ours is JSON with the facts of the model it was searched for. The published ones, on a side branch of
microsoft/LongRoPE (MIT), are bare numbers: a row a layer, all rows the same, a column a pair of channels.
"""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, field, fields
from pathlib import Path
from typing import Annotated, Any

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from .knobs import LARGEST, LONGEST, Positive, RopeError, Tokens, checked

FORMAT = 1
Count = Annotated[int, Field(ge=0, le=LONGEST)]
Divisor = Annotated[float, Field(gt=0, le=LARGEST, allow_inf_nan=False)]
Divisors = Annotated[tuple[Divisor, ...], Field(strict=False, min_length=1)]


@dataclass(frozen=True, kw_only=True, config=ConfigDict(strict=True))
class Factors:
    """Hold divisors of the unscaled frequencies, and the model they were searched for."""

    long: Divisors
    "lambda [rotary_dim / 2], each at least 1"
    short: Divisors | None = None
    "lambda up to original_length tokens; None: `long` holds there too"
    first_tokens: Count = 0
    "positions below this rotate unscaled"
    attention_scale: Positive | None = None
    "scalar on cos and sin; None: the scheme's own formula"
    rotary_dim: Tokens | None = None
    original_length: Tokens | None = None
    "tokens"
    target_length: Tokens | None = None
    "tokens the factors were searched at"
    theta: Positive | None = None
    provenance: Mapping[str, Any] = field(default_factory=dict)
    "how they were found: model, corpus, fitness, settings, seed, tokens spent; JSON values"

    def __post_init__(self) -> None:
        """Check what values must be to one another."""
        for name, divisors in (("long", self.long), ("short", self.short or ())):
            check_divisors(name, divisors, at_least=1)
        if self.short is not None and len(self.short) != len(self.long):
            raise RopeError(
                f"short: must hold as many values as long, {len(self.long)}, got {len(self.short)}; "
                "take both from one model"
            )
        if self.rotary_dim not in (None, 2 * len(self.long)):
            raise RopeError(
                f"long: must hold rotary_dim / 2 values, got {len(self.long)} for rotary_dim "
                f"{self.rotary_dim}; search again for this model"
            )


def check_divisors(where: str, divisors: Iterable[float], *, at_least: float) -> None:
    """Refuse a divisor below the bound."""
    for index, value in enumerate(divisors):
        if value < at_least:
            raise RopeError(
                f"{where}[{index}]: must be at least {at_least:.4g}, got {value}; factors divide the "
                "unscaled frequencies, take the reciprocal of multipliers"
            )


def read_factors(path: str | os.PathLike[str]) -> Factors:
    """Read a `.json` of ours or a published `.csv`; errors begin with the path."""
    path = Path(os.path.expanduser(path))
    readers = {".json": _from_json, ".csv": _from_csv}
    if path.suffix not in readers:
        raise RopeError(f"{path}: must end in .json or .csv, got {path.name!r}; name a factor file")
    try:
        with checked(Factors):
            return readers[path.suffix](path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RopeError(
            f"{path}: must be a readable file, got {error.strerror}; paths start from the working folder"
        ) from error
    except RopeError as error:
        raise RopeError(f"{path}: {error}") from error
    except ValueError as error:
        raise RopeError(
            f"{path}: must hold numbers as {path.suffix[1:].upper()}, got {error}; name a factor file"
        ) from error


def write_factors(path: str | os.PathLike[str], factors: Factors) -> None:
    """Write a `.json`, whole or not at all."""
    path = Path(path)
    if path.suffix != ".json":
        raise RopeError(f"{path}: must end in .json, got {path.name!r}; rename it")
    text = json.dumps({"format": FORMAT} | asdict(factors), indent=2, allow_nan=False)
    writing = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        writing.write_text(text + "\n", encoding="utf-8")
        writing.replace(path)
    finally:
        writing.unlink(missing_ok=True)


def _from_json(text: str) -> Factors:
    """Read our own format."""
    read = json.loads(text)
    found = read.pop("format", None) if isinstance(read, dict) else None
    if found != FORMAT:
        raise RopeError(
            f"format: must be {FORMAT}, got {found!r}; use a factor file of `ropewalk rope search`, "
            "or update ropewalk"
        )
    known = {field.name for field in fields(Factors)}
    if unknown := sorted(set(read) - known):
        raise RopeError(f"keys: must be known to format {FORMAT}, got {', '.join(unknown)}; remove them")
    if "long" not in read:
        raise RopeError("long: must hold the divisors, got none; complete the file")
    return Factors(**read)


def _from_csv(text: str) -> Factors:
    """Read the published layout, one vector repeated for every layer."""
    rows = [tuple(map(float, row)) for row in csv.reader(text.splitlines()) if row]
    if len(set(rows)) != 1:
        got = f"{len(set(rows))} different rows" if rows else "no rows"
        raise RopeError(f"rows: must be one vector repeated for every layer, got {got}; keep one")
    return Factors(long=rows[0], rotary_dim=2 * len(rows[0]))
