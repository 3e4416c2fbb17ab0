"""In which window were a model's unscaled frequencies pretrained? What its config says, or may mean.

Linear and dynamic scaling do not ask for it, and for the other types transformers fills in the window the
config ends with, which is mostly the extended one. New frequencies computed from that are off by the whole
factor. So a scaled model's original length is what somebody stated, or a guess, and is marked as one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .families import DEFAULT_ORIGINAL, FULL, ONLY_LONGROPE, PRETRAINED, whole
from .scheme import Guess, RopeError

ORIGINAL = "original_max_position_embeddings"
WINDOW = "max_position_embeddings"
FILLED = ("llama3", "longrope", "yarn")
"types for which transformers writes max_position_embeddings where no original length stands"


def original_length_of(
    fields: Mapping[str, Any], parameters: Mapping[str, Any], override: int | None
) -> tuple[int, tuple[Guess, ...]]:
    """Return the original length, and what else it may be where neither the override nor the config says."""
    kind, model_type, factor = parameters["rope_type"], fields["model_type"], parameters.get("factor")
    top, own = fields.get(ORIGINAL), parameters.get(ORIGINAL)
    if kind == "default" and (override is not None or model_type in ONLY_LONGROPE):
        # Phi-3's config class always states one, which an unscaled model does not use.
        return whole(fields, WINDOW) if override is None else override, ()
    published = PRETRAINED.get((model_type, fields.get(WINDOW, 0), float(factor or 1)), (None,))[0]
    filled = kind in FILLED and own == fields.get(WINDOW) and factor != 1 and own != alone(fields)
    if filled and (override is not None or own != published):
        own = None
    stated = {length for length in (top, own, override) if length is not None}
    if len(stated) > 1:
        raise RopeError(
            f"config.{ORIGINAL}: must be one length for the {kind} scheme of this model, "
            f"got {' and '.join(map(str, sorted(stated)))}; give the one it was scaled from"
        )
    known = next(iter(stated), DEFAULT_ORIGINAL.get(model_type))
    if known is None and kind == "default":
        known = whole(fields, WINDOW)
    if known is not None:
        return known, ()
    guesses = guess_original(model_type, whole(fields, WINDOW), factor)
    if filled:
        guesses[0] = guesses[0]._replace(
            why="as stated, but it equals max_position_embeddings and may only be filled in"
        )
    return guesses[0].length, tuple(guesses)


def alone(fields: Mapping[str, Any]) -> int | None:
    """Return what `rope_scaling` states where it stands alone, which transformers 5 does not write."""
    if fields.get("rope_parameters"):
        return None
    stated = fields.get("rope_scaling") or {}
    return (stated.get(FULL) or stated).get(ORIGINAL)


def keep_stated(config: Any, fields: Mapping[str, Any]) -> Any:
    """Return a config object that still says what its file states: its class fills in the same key."""
    if (length := alone(fields)) is not None:
        setattr(config, ORIGINAL, length)
    return config


def guess_original(model_type: str, window: int, factor: float | None) -> list[Guess]:
    """Return the readings of a scaled config that states no original length, readers' own first."""
    guesses = {window: "max_position_embeddings as it stands"}
    if factor is not None and 1 < factor <= window / 2:
        guesses[round(window / factor)] = f"{window} divided by the factor {factor:g}"
    if known := PRETRAINED.get((model_type, window, float(factor or 1))):
        guesses |= [known]
    return [Guess(*guess) for guess in guesses.items()]
