"""Which fields of a config would make a reader compute what was trained? The fewest that harm no other."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from .reader import Config, Question, Reader
from .serving import READERS, VERDICTS, judge
from .trained import Trained

Change = tuple[tuple[str, ...], Any]
"where a value goes, and the value"


def cure(
    config: Config, wanted: Mapping[str, Any], trained: Trained, reader: Reader, question: Question
) -> list[Change]:
    """Return the fewest changes towards `wanted` that serve a reader as well as all of them.

    No other reader may end worse than it is now; where that cannot be, there is no cure.
    """
    kept, here = list(_changes(config, wanted)), READERS.index(reader)
    allowed = ranks(config, trained, question)
    allowed[here] = ranks(changed(config, kept), trained, question)[here]

    def harmless(changes: list[Change]) -> bool:
        found = ranks(changed(config, changes), trained, question)
        return all(rank <= most for rank, most in zip(found, allowed, strict=True))

    if not harmless(kept):
        return []
    for change in list(kept):
        fewer = [other for other in kept if other is not change]
        kept = fewer if harmless(fewer) else kept
    return kept


def ranks(config: Config, trained: Trained, question: Question) -> list[int]:
    """Return every reader's verdict on a config, 0 the best."""
    return [VERDICTS.index(judge(reader, config, trained, question).verdict) for reader in READERS]


def _changes(config: Config, wanted: Mapping[str, Any]) -> Iterator[Change]:
    """Yield what to write, whole layouts first: they are the first to be given up."""
    missing = [key for key, value in wanted.items() if isinstance(value, Mapping) and not config.get(key)]
    for key in [*missing, *(key for key in wanted if key not in missing)]:
        value = wanted[key]
        there = config.get(key)
        if isinstance(value, Mapping) and isinstance(there, Mapping) and not set(there) - set(value):
            yield from (((key, *path), new) for path, new in _changes(there, value))
        elif text(there) != text(value):
            yield (key,), value


def changed(config: Config, changes: Sequence[Change]) -> dict[str, Any]:
    """Return a config with values written into it."""
    new = copy.deepcopy(dict(config))
    for path, value in changes:
        place = new
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = value
    return new


def told(changes: Sequence[Change]) -> str:
    """Return changes as a person would write them."""
    return ", ".join(f"{'.'.join(path)} = {short(value)}" for path, value in changes)


def text(value: Any) -> str:
    """Return a value as JSON, in which 4 and 4.0 differ."""
    return json.dumps(value, sort_keys=True)


def short(value: Any) -> str:
    """Return a value as JSON, a long list as its size."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f'"{key}": {short(inner)}' for key, inner in value.items()) + "}"
    if isinstance(value, list | tuple) and len(value) > 4:
        return f"[{len(value)} numbers]"
    return json.dumps(value)
