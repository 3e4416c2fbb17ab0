"""How does one part of a recipe lie over another? The one rule for bases, overrides and stages."""

from collections.abc import Mapping
from typing import Any


def merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Lay a mapping over another: mappings merge, all else replaces; a new `rope.kind` drops old knobs."""
    merged = dict(below)
    for key, value in above.items():
        under = merged.get(key)
        if isinstance(under, Mapping) and isinstance(value, Mapping):
            if key == "rope" and value.get("kind", under.get("kind")) != under.get("kind"):
                under = {name: under[name] for name in ("kind", "replace") if name in under}
            value = merge(under, value)
        merged[key] = value
    return merged
