"""What does it mean to lay one mapping over another? The one rule for bases, stages and overrides.

It is JSON's merge patch (RFC 7396) with two rules more, for what would else have no effect or be an error:

- mappings merge key by key; anything else, a list too, replaces what was there;
- `null` removes a key that is there;
- `{}` empties a mapping;
- a mapping of another `kind` replaces the whole one: what was said of the old kind is not meant for the new.

Where nothing is there to remove, a null stays and the types judge it: every key that may be null means by it
that it is not set. Only in `model.config`, whose words are Hugging Face's, it is a value like any other.
"""

from collections.abc import Mapping, Sequence
from typing import Any

AS_WRITTEN = ("model", "config")
"""Where a null is a value."""


def merge(below: Mapping[str, Any], above: Mapping[str, Any], *, at: tuple[str, ...] = ()) -> dict[str, Any]:
    """Lay `above` over `below`, which stand at the key `at` of a recipe; neither is changed."""
    merged = dict(below)
    for key, value in above.items():
        under, place = merged.get(key), (*at, key)
        if value is None and key in merged and at != AS_WRITTEN:
            del merged[key]
        elif isinstance(under, Mapping) and isinstance(value, Mapping) and value and _alike(under, value):
            merged[key] = merge(under, value, at=place)
        else:
            merged[key] = value
    return merged


def _alike(under: Mapping[str, Any], value: Mapping[str, Any]) -> bool:
    """Say whether a mapping speaks of what is there already, and not of another kind."""
    return "kind" not in under or value.get("kind") in (None, under["kind"])


def inside(values: Any, path: Sequence[int | str]) -> Any:
    """Give what stands at a place; None where nothing does."""
    for part in path:
        values = dict(enumerate(values)) if isinstance(values, list) else values
        values = values.get(part) if isinstance(values, Mapping) else None
    return values
