"""Which rope parameters does a config state for the layers of a type, in whichever of its layouts?

Transformers 4 has `rope_theta` and `rope_scaling`, transformers 5 has `rope_parameters` with both inside.
Both may stand in one file; what they say must then be one thing.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from .families import BY_LAYER_TYPE, DECLARE_LAYER_TYPES, DEFAULT_THETA, FULL, OLDER_TYPES, SLIDING
from .fields import LAYOUTS
from .scheme import RopeError

TOP = ("rope_theta", "partial_rotary_factor")
"keys that the older layout has at the top level"


def stated_parameters(
    fields: Mapping[str, Any], layer_type: str, types: Collection[str]
) -> list[dict[str, Any]]:
    """Return one flat set of rope parameters for a layer type: of all layouts together.

    Then, where both layouts are there, that of `rope_scaling` alone, which is all that transformers reads.
    """
    new, old = (_flat(fields, name, layer_type, types) for name in LAYOUTS)
    top = {key: fields[key] for key in TOP if fields.get(key) is not None}
    if layer_type == SLIDING:
        # The old layout keeps the theta of the layers that do not see everything apart.
        local = fields.get("rope_local_base_freq")
        top = {} if local is None else {"rope_theta": local}
    merged: dict[str, Any] = {}
    for where, part in (("rope_parameters", new), ("rope_scaling", old), ("top level", top)):
        for key, value in part.items():
            if merged.setdefault(key, value) != value:
                raise RopeError(
                    f"config.{key}: must be the same in every layout, got {merged[key]} and, from {where}, "
                    f"{value}; delete the wrong one"
                )
    both = all(fields.get(name) for name in LAYOUTS) and fields["model_type"] not in BY_LAYER_TYPE
    # Transformers 5 objects may show `rope_parameters` under both names.
    alone = [old | top] if both and fields[LAYOUTS[0]] != fields[LAYOUTS[1]] else []
    return [_complete(fields, layer_type, stated) for stated in (merged, *alone)]


def _complete(fields: Mapping[str, Any], layer_type: str, stated: Mapping[str, Any]) -> dict[str, Any]:
    """Return with the type and theta that are meant where none is stated."""
    complete = {"rope_type": "default", **stated}
    if complete.get("rope_theta") is None:
        complete["rope_theta"] = _default_theta(fields, layer_type)
    return complete


def _flat(fields: Mapping[str, Any], layout: str, layer_type: str, types: Collection[str]) -> dict[str, Any]:
    """Return one layout's parameters of a layer type, without empty values, old names renamed."""
    stated, model_type = dict(fields.get(layout) or {}), str(fields["model_type"])
    nested = {name: stated.pop(name) for name in (FULL, SLIDING) if name in stated}
    _check_form(layout, model_type, stated, nested, types)
    if nested:
        stated = dict(nested.get(layer_type) or {})
    elif model_type in BY_LAYER_TYPE and layer_type != FULL:
        stated = {}
    old = stated.pop("type", None)
    if old is not None and stated.setdefault("rope_type", old) != old:
        raise RopeError(
            f"config.rope_type: must agree with its old name `type`, got {stated['rope_type']!r} and "
            f"{old!r}; delete the wrong one"
        )
    flat = {key: value for key, value in stated.items() if value is not None}
    kind = flat.get("rope_type")
    return flat if kind is None else flat | {"rope_type": OLDER_TYPES.get((model_type, kind), kind)}


def _check_form(
    layout: str,
    model_type: str,
    flat: Mapping[str, Any],
    nested: Mapping[str, Any],
    types: Collection[str],
) -> None:
    """Refuse a form of a layout that transformers does not look into, or only in part."""
    by_layer = model_type in BY_LAYER_TYPE and layout == "rope_parameters"
    if nested.get(SLIDING) and SLIDING not in types:
        raise RopeError(
            f"config.{layout}: must be the same for every layer, got also {SLIDING}, which no "
            "layer of this model is; use a model with one kind of layer"
        )
    if nested and flat:
        raise RopeError(
            f"config.{layout}: must state its keys by layer type or for all layers, got both, "
            f"{', '.join(flat)} beside {', '.join(nested)}; delete those that do not hold"
        )
    if flat and by_layer:
        raise RopeError(
            f"config.{layout}: must state its keys by layer type for {model_type}, got {', '.join(flat)}, "
            f"which transformers does not read there; write them under {FULL} and {SLIDING}"
        )
    if nested and not by_layer and model_type not in DECLARE_LAYER_TYPES:
        raise RopeError(
            f"config.{layout}: must state its keys for all layers of {model_type}, got them under "
            f"{', '.join(nested)}, where transformers does not look; move them up"
        )


def _default_theta(fields: Mapping[str, Any], layer_type: str) -> float:
    """Return the theta that configs without one are known to mean, or refuse."""
    model_type = fields["model_type"]
    by_layer = model_type in BY_LAYER_TYPE
    if (by_layer or fields.get("rope_parameters") is None) and (model_type, layer_type) in DEFAULT_THETA:
        return DEFAULT_THETA[model_type, layer_type]
    raise RopeError(
        f"config.rope_theta: must be stated for {model_type}, got none; add the base it was trained with "
        "(a config saved after `rope_scaling` was set has often lost it)"
    )
