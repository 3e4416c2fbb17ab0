"""What does a scheme do to a model's frequencies? Numbers to look at before anything is trained.

    turns, regions    which pairs are kept or interpolated, which meet angles that pretraining never showed
    critical dimension    the first that made no whole turn in pretraining (LongRoPE2, 2502.20082, equation 7)
    attention decay   how q.k of like tokens fades with distance, and where it first turns negative
    base lower bound  the theta that keeps it from turning negative in a window (Men et al., 2405.14591)

Distances are those the rotation sees; `relative_positions` says which these are under an attention scheme.
Two sets of frequencies are compared here too, and `at_stretch` brings schemes to the same effective scale.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .knobs import LARGEST
from .relative import AttentionScheme
from .scheme import Array, Base, Frequencies, RopeError, Scheme, inverse_frequencies

Places = NDArray[np.int64]

KEPT, FASTER, BLENDED, INTERPOLATED = "kept", "faster", "blended", "interpolated"
TOLERANCE = 1e-3
"relative; a smaller change, as from rounding a long wavelength to whole tokens, counts as none"
BLOCK = 1024
"distances that share one row of a product of sums of angles"
PROBED = 256
"positions before the end of a length at which angles are compared"
HIGHEST_BASE = 1e12
"where the search for a base stops: a few pairs alone turn negative at any base"


@dataclass(frozen=True, kw_only=True, eq=False)
class Analysis:
    """Hold what `analyse` found; rows are one or, where heads differ, one for each kv head."""

    factor: float
    "how far the window grows: target_length / original_length"
    critical_dimension: int
    "the first dimension of 0..rotary_dim whose pair made no whole turn in pretraining; pairs are half of it"
    wavelength: Array
    "tokens a turn, float64 [rows, pairs]"
    divisor: Array
    "lambda: unscaled / scaled inverse frequency, float64 [rows, pairs]"
    turns_original: Array
    "turns a pair made in pretraining, float64 [pairs]"
    turns_target: Array
    "turns a pair makes over the largest relative position in use, float64 [rows, pairs]"
    regions: list[list[str]]
    "by lambda: kept (1), faster (below), blended (above), interpolated (at least the factor), [rows][pairs]"
    unseen: NDArray[np.bool_]
    "bool [rows, pairs]: made no whole turn in pretraining, and now turns further than it did"
    positive_until: list[int | None]
    "tokens; the first distance at which like tokens repel, a row; None: beyond the target"


def analyse(frequencies: Frequencies, base: Base, *, target_length: int, reach: float = 1.0) -> Analysis:
    """Set a scheme's frequencies beside the unscaled ones.

    `reach` is largest distance / largest relative position in use, above 1 for attention schemes. LongRoPE's
    first tokens are left out: they are few, and their frequencies are another scheme's.
    """
    base.require_stated()
    unscaled, scaled = base.unscaled(), frequencies.inv_freq
    factor, furthest = target_length / base.original_length, target_length / reach
    divisor = unscaled / scaled
    before = base.original_length * unscaled / (2 * math.pi)
    after = furthest * scaled / (2 * math.pi)
    return Analysis(
        factor=factor,
        critical_dimension=critical_dimension(base),
        wavelength=2 * math.pi / scaled,
        divisor=divisor,
        turns_original=before,
        turns_target=after,
        regions=[[_region(value, factor) for value in row] for row in divisor.tolist()],
        unseen=(before < 1) & (after > before * (1 + TOLERANCE)),
        positive_until=[first_negative(row, math.ceil(furthest)) for row in scaled],
    )


def _region(divisor: float, factor: float) -> str:
    """Name what a divisor does to a pair."""
    if divisor < 1 - TOLERANCE:
        return FASTER
    if divisor <= 1 + TOLERANCE:
        return KEPT
    return INTERPOLATED if divisor >= factor * (1 - TOLERANCE) else BLENDED


def critical_dimension(base: Base) -> int:
    """Return 2 ceil(d/2 log_theta(L / 2 pi)), at most d: then every pair made a turn (2502.20082, eq. 7)."""
    pairs = base.rotary_dim / 2 * math.log(base.original_length / (2 * math.pi)) / math.log(base.theta)
    return 2 * min(max(math.ceil(pairs), 0), base.rotary_dim // 2)


def attention_decay(frequencies: Frequencies, distances: NDArray[Any]) -> Array:
    """Return m^2 mean_i cos(n theta_i) at distances n [N], float64 [rows, N].

    That is q.k turned over q.k unturned, in expectation over like tokens q = k with channels of equal size.
    """
    angles = distances.astype(np.float64)[:, None] * frequencies.inv_freq[:, None]
    return frequencies.attention_scale**2 * np.cos(angles).mean(-1)


def relative_positions(scheme: Scheme, base: Base, distances: Places, *, target_length: int) -> Places:
    """Return the relative positions at which the last of `target_length` tokens meets keys this far away.

    `distances` are whole tokens below `target_length`; only an attention scheme changes them.
    """
    if not isinstance(scheme, AttentionScheme):
        return distances
    last, relative = target_length - 1, np.empty_like(distances)
    keys = last - distances
    for band in scheme.bands(base, target_length=target_length):
        start, stop = band.keys(last)
        here = (keys >= start) & (keys < stop)
        relative[here] = band.query(np.int64(last)) - band.key(keys[here])
    return relative


def first_negative(inv_freq: Array, length: int) -> int | None:
    """Return the first whole distance below `length` (tokens) where sum_i cos(n theta_i) < 0, else None.

    `inv_freq` is float64 [pairs]. The sums are one matrix product, cos(a + b) = cos a cos b - sin a sin b:
    at a million distances that takes tens of milliseconds where the cosines would take a second.
    """
    block = inv_freq[:, None] * np.arange(BLOCK, dtype=np.float64)
    within = np.concatenate((np.cos(block), -np.sin(block)))
    for start in range(0, length, 64 * BLOCK):
        rows = np.arange(start, min(start + 64 * BLOCK, length), BLOCK, dtype=np.float64)
        angles = rows[:, None] * inv_freq
        sums = (np.concatenate((np.cos(angles), np.sin(angles)), axis=1) @ within).ravel()
        if (sums < 0).any():
            first = start + int(np.argmax(sums < 0))
            return first if first < length else None
    return None


@cache
def base_lower_bound(rotary_dim: int, length: int) -> float | None:
    """Return the smallest theta of two digits that keeps sum_i cos(n theta_i) >= 0 below `length` tokens.

    The bound of Men et al. (2405.14591). It is no threshold: larger bases fail again, and a finer grid finds
    isolated smaller ones, so that two digits are part of the definition; with them, and 1K read as 1000, the
    published table comes out. None where no base up to 10^12 will do, as with a few pairs.
    """
    mantissa, power = 10, math.floor(math.log10(max(length, 10)))
    while (theta := mantissa * 10.0 ** (power - 1)) <= HIGHEST_BASE:
        if first_negative(inverse_frequencies(theta, rotary_dim), length) is None:
            return theta
        mantissa, power = (mantissa + 1, power) if mantissa < 99 else (10, power + 1)
    return None


def frequency_error(read: Frequencies, trained: Frequencies) -> float:
    """Return the largest relative difference of an inverse frequency."""
    if read.inv_freq.shape[-1] != trained.inv_freq.shape[-1]:
        return math.inf
    return float(np.abs(read.inv_freq / trained.inv_freq - 1).max())


def scale_error(read: Frequencies, trained: Frequencies) -> float:
    """Return the relative difference of the attention scale."""
    return abs(read.attention_scale / trained.attention_scale - 1)


def angle_error(read: Frequencies, trained: Frequencies, length: int) -> float:
    """Return the largest error of a reader's cos and sin near the end of `length` tokens.

    Readers take the angle in float32, ours is exact to float64; so some of it is there whatever the config.
    """
    if read.inv_freq.shape[-1] != trained.inv_freq.shape[-1]:
        return math.inf
    at = np.arange(max(0, length - PROBED), length)
    turns = (_turns(read, at, np.float32), _turns(trained, at, np.float64))
    return max(float(np.abs(told - exact).max()) for told, exact in zip(*turns, strict=True))


def _turns(frequencies: Frequencies, at: Places, dtype: Any) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return cos and sin times the attention scale, [rows, positions, pairs], of angles in `dtype`."""
    positions = at.astype(dtype)[:, None]
    angles = positions * frequencies.inv_freq.astype(dtype)[:, None]
    scale = np.full_like(positions, frequencies.attention_scale)
    if frequencies.first_inv_freq is not None:
        early = (at < frequencies.first_tokens)[:, None]
        first = positions * frequencies.first_inv_freq.astype(dtype)[:, None]
        angles, scale = np.where(early, first, angles), np.where(early, 1, scale)
    return np.cos(angles) * scale, np.sin(angles) * scale


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
    while reached(high) < stretch and high < LARGEST:
        low, high = high, min(high * high, LARGEST)
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
