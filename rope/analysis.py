"""What does a scheme do to a model's frequencies? Numbers to look at before anything is trained.

    turns, regions    which pairs are kept or interpolated, which meet angles that pretraining never showed
    critical dimension    the first that made no whole turn in pretraining (LongRoPE2, 2502.20082, equation 7)
    attention decay   how q.k of like tokens fades with distance, and where it first turns negative
    base lower bound  the theta that keeps it from turning negative in a window (Men et al., 2405.14591)

Distances are those the rotation sees; `relative_positions` says which these are under an attention scheme.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from .bands import AttentionScheme
from .base import Base, inverse_frequencies
from .scheme import Frequencies, Scheme

KEPT, FASTER, BLENDED, INTERPOLATED = "kept", "faster", "blended", "interpolated"
TOLERANCE = 1e-3
"relative; a smaller change, as from rounding a long wavelength to whole tokens, counts as none"
BLOCK = 1024
"distances that share one row of a product of sums of angles"
HIGHEST_BASE = 1e12
"where the search for a base stops: a few pairs alone turn negative at any base"


@dataclass(frozen=True, kw_only=True, eq=False)
class Analysis:
    """Hold what `analyse` found; rows are one or, where heads differ, one for each kv head."""

    factor: float
    "how far the window grows: target_length / original_length"
    critical_dimension: int
    "the first dimension of 0..rotary_dim whose pair made no whole turn in pretraining; pairs are half of it"
    wavelength: Tensor
    "tokens a turn, float64 [rows, pairs]"
    divisor: Tensor
    "lambda: unscaled / scaled inverse frequency, float64 [rows, pairs]"
    turns_original: Tensor
    "turns a pair made in pretraining, float64 [pairs]"
    turns_target: Tensor
    "turns a pair makes over the largest relative position in use, float64 [rows, pairs]"
    regions: list[list[str]]
    "by lambda: kept (1), faster (below), blended (above), interpolated (at least the factor), [rows][pairs]"
    unseen: Tensor
    "bool [rows, pairs]: made no whole turn in pretraining, and now turns further than it did"
    positive_until: list[int | None]
    "tokens; the first distance at which like tokens repel, a row; None: beyond the target"


def analyse(frequencies: Frequencies, base: Base, *, target_length: int, reach: float = 1.0) -> Analysis:
    """Set a scheme's frequencies beside the unscaled ones.

    `reach` is largest distance / largest relative position in use, above 1 for attention schemes. LongRoPE's
    first tokens are left out: they are few, and their frequencies are another scheme's.
    """
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


def attention_decay(frequencies: Frequencies, distances: Tensor) -> Tensor:
    """Return m^2 mean_i cos(n theta_i) at distances n [N], float64 [rows, N].

    That is q.k turned over q.k unturned, in expectation over like tokens q = k with channels of equal size.
    """
    angles = distances.double()[:, None] * frequencies.inv_freq[:, None]
    return frequencies.attention_scale**2 * angles.cos().mean(-1)


def relative_positions(scheme: Scheme, base: Base, distances: Tensor, *, target_length: int) -> Tensor:
    """Return the relative positions at which the last of `target_length` tokens meets keys this far away.

    `distances` are whole tokens below `target_length`; only an attention scheme changes them.
    """
    if not isinstance(scheme, AttentionScheme):
        return distances
    last, relative = target_length - 1, torch.empty_like(distances)
    keys = last - distances
    for band in scheme.bands(base, target_length=target_length):
        start, stop = band.keys(last)
        here = (keys >= start) & (keys < stop)
        relative[here] = band.query(torch.tensor(last)) - band.key(keys[here])
    return relative


def first_negative(inv_freq: Tensor, length: int) -> int | None:
    """Return the first whole distance below `length` (tokens) where sum_i cos(n theta_i) < 0, else None.

    `inv_freq` is float64 [pairs]. The sums are one matrix product, cos(a + b) = cos a cos b - sin a sin b:
    at a million distances that takes tens of milliseconds where the cosines would take a second.
    """
    block = inv_freq[:, None] * torch.arange(BLOCK, dtype=torch.float64)
    within = torch.cat((block.cos(), -block.sin()))
    starts = torch.arange(0, length, BLOCK, dtype=torch.float64)
    for rows in starts.split(64):
        angles = rows[:, None] * inv_freq
        sums = (torch.cat((angles.cos(), angles.sin()), dim=1) @ within).flatten()
        below = (sums < 0).nonzero()
        if len(below):
            found = int(rows[0]) + int(below[0])
            return found if found < length else None
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
