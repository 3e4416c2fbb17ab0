"""How are schemes compared at the same effective scale? Set the one knob that moves a scheme's stretch."""

import math
from dataclasses import replace
from typing import Any

from .base import Base, RopeError
from .scheme import Scheme

WIDEST = 1e40
"largest value of a knob that is tried"


def at_stretch(scheme: Scheme, base: Base, *, target_length: int, stretch: float) -> Scheme:
    """Return the scheme with its knob set so that its frequencies have this stretch (1e-9 relative).

    A scheme that wraps another sets the wrapped one's and then rounds it. Raises RopeError for a scheme
    without such a knob, and where no value of the knob gives this stretch.
    """
    inner = getattr(scheme, "of", None)
    if isinstance(inner, Scheme):
        of: Any = {"of": at_stretch(inner, base, target_length=target_length, stretch=stretch)}
        return replace(scheme, **of)
    knob = scheme.stretch_knob
    if knob is None:
        raise RopeError(
            f"rope.{scheme.name}: must have a knob that sets its stretch, got none; run it as published"
        )

    def made(value: float) -> Scheme:
        return replace(scheme, **{knob: value})

    def reached(value: float) -> float:
        return made(value).frequencies(base, target_length=target_length).stretch(base)

    # Every such knob is a number from 1 upwards, with the stretch growing in it.
    low, high = math.nextafter(1, 2), 2.0
    while reached(high) < stretch and high < WIDEST:
        low, high = high, high * high
    # Twelve digits keep the stretch to 1e-11 and turn 7.999999999999998 back into 8.
    value = float(f"{_bisect(reached, stretch, low, high):.12g}")
    if abs(reached(value) / stretch - 1) > 1e-9:
        raise RopeError(
            f"rope.{scheme.name}.{knob}: must be able to give a stretch of {stretch:g}, got "
            f"{reached(value):g} at {value:g}; compare it as published, or at a stretch it reaches"
        )
    return made(value)


def _bisect(function: Any, wanted: float, low: float, high: float) -> float:
    """Return where a rising function crosses `wanted`, halving the logarithm of the interval."""
    for _ in range(100):
        middle = math.sqrt(low * high)
        if not low < middle < high:
            break
        low, high = (middle, high) if function(middle) < wanted else (low, middle)
    return high
