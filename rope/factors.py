"""Where do LongRoPE's divisors come from? A file of our own search, or a CSV as published.

Ours is JSON with the facts of the model it was searched for. The published ones, on a side branch of
microsoft/LongRoPE (MIT), are bare numbers: a row a layer, all rows the same, a column a pair of channels.
"""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from .base import RopeError
from .scheme import check_number

FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class Factors:
    """Hold divisors of the unscaled frequencies, and the model they were searched for."""

    long: tuple[float, ...]
    "lambda [rotary_dim / 2], each at least 1"
    short: tuple[float, ...] | None = None
    "lambda up to original_length tokens; None: `long` holds there too"
    first_tokens: int = 0
    "positions below this rotate unscaled"
    attention_scale: float | None = None
    "scalar on cos and sin; None: the scheme's own formula"
    rotary_dim: int | None = None
    original_length: int | None = None
    "tokens"
    target_length: int | None = None
    "tokens the factors were searched at"
    theta: float | None = None
    provenance: Mapping[str, Any] = field(default_factory=dict)
    "how they were found: model, corpus, fitness, settings, seed, tokens spent; JSON values"

    def __post_init__(self) -> None:
        """Check every value."""
        object.__setattr__(self, "long", divisor_tuple("long", self.long))
        if self.short is not None:
            object.__setattr__(self, "short", divisor_tuple("short", self.short))
            if len(self.short) != len(self.long):
                raise RopeError(
                    f"short: must hold as many values as long, {len(self.long)}, got {len(self.short)}; "
                    "take both from one model"
                )
        if self.rotary_dim not in (None, 2 * len(self.long)):
            raise RopeError(
                f"long: must hold rotary_dim / 2 values, got {len(self.long)} for rotary_dim "
                f"{self.rotary_dim}; search again for this model"
            )
        check_first_tokens("first_tokens", self.first_tokens)
        for name in ("attention_scale", "rotary_dim", "original_length", "target_length", "theta"):
            if getattr(self, name) is not None:
                check_number(name, getattr(self, name), above=0, cure="write null if it is not known")


def read_factors(path: str | os.PathLike[str]) -> Factors:
    """Read a `.json` of ours or a published `.csv`; errors begin with the path."""
    path = Path(path)
    readers = {".json": _from_json, ".csv": _from_csv}
    if path.suffix not in readers:
        raise RopeError(f"{path}: must end in .json or .csv, got {path.name!r}; name a factor file")
    try:
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


def divisor_tuple(where: str, values: Any, *, at_least: float = 1) -> tuple[float, ...]:
    """Return divisors as a tuple of floats, refusing what is no list or holds a value below the bound."""
    if isinstance(values, str | Mapping) or not isinstance(values, Iterable) or not (held := tuple(values)):
        raise RopeError(
            f"{where}: must be a list of numbers, got {values!r}; name a factor file or list them"
        )
    for index, value in enumerate(held):
        cure = "factors divide the unscaled frequencies, take the reciprocal of multipliers"
        check_number(f"{where}[{index}]", value, at_least=at_least, cure=cure)
    return tuple(map(float, held))


def check_first_tokens(where: str, value: Any) -> None:
    """Refuse what is no count of tokens."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise RopeError(f"{where}: must be a whole number of at least 0 tokens, got {value!r}; usually 0")
