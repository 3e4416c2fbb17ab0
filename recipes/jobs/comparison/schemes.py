"""In which form does each scheme of a comparison take part at a factor: its knob, its stretch, its twin?

A published ranking of schemes set an effective scale of 29 beside one of 8. So by default the one knob that
moves a scheme's stretch is set until the stretch is the factor; a scheme without one runs as published, and
says so. At equal stretch two schemes may be one: NTK and ABF are both a larger theta. They share a cell.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from ....rope import AttentionScheme, Base, Scheme, at_stretch

SAME = 1e-9
"""Relative difference of frequencies below which two schemes are one."""


@dataclass(frozen=True, kw_only=True)
class Contender:
    """One scheme at one factor as it takes part."""

    label: str
    "its name in tables: the kind, and the knobs that the recipe states"
    scheme: Scheme
    factor: float
    target_length: int
    trains: bool
    stretch: float
    "unscaled / scaled inverse frequency of the slowest pair; of an attention scheme its reach"
    matched: bool
    "its knob was set so that its stretch is the factor; false: it runs as published"
    same_as: str | None = None
    "label of the earlier contender that has the same frequencies and so the same cells"

    @property
    def is_attention(self) -> bool:
        return isinstance(self.scheme, AttentionScheme)

    @property
    def setting(self) -> str:
        """Say stretch and knob, for a table."""
        if self.same_as is not None:
            return f"as {self.same_as}"
        stretch = f"{'reach' if self.is_attention else 'stretch'} {self.stretch:.4g}"
        if not self.matched:
            return f"{stretch}, as published"
        knob, value = knob_of(self.scheme)
        return f"{stretch}, {knob} {value:.6g}"


def contender(
    label: str, scheme: Scheme, base: Base, *, factor: float, equal: bool, trains: bool
) -> Contender:
    """Set a scheme for a factor; RopeError where it cannot be."""
    target_length = round(factor * base.original_length)
    matched = equal and knob_of(scheme)[0] is not None
    if matched:
        scheme = at_stretch(scheme, base, target_length=target_length, stretch=factor)
    if isinstance(scheme, AttentionScheme):
        stretch = scheme.reach(base, target_length=target_length)
    else:
        stretch = scheme.frequencies(base, target_length=target_length).stretch(base)
    return Contender(
        label=label,
        scheme=scheme,
        factor=factor,
        target_length=target_length,
        trains=trains,
        stretch=stretch,
        matched=matched,
    )


def with_twins(contenders: Iterable[Contender], base: Base) -> list[Contender]:
    """Mark each contender that has the frequencies of an earlier one."""
    marked: list[Contender] = []
    for one in contenders:
        twin = next((other for other in marked if other.same_as is None and is_twin(one, other, base)), None)
        marked.append(replace(one, same_as=twin.label if twin else None))
    return marked


def is_twin(one: Contender, other: Contender, base: Base) -> bool:
    """Tell whether two contenders rotate alike at every length, and are trained or not alike."""
    pair = (one, other)
    if one.trains != other.trains or any(c.is_attention or c.scheme.depends_on_length for c in pair):
        return False
    a, b = (c.scheme.frequencies(base, target_length=c.target_length) for c in pair)
    return (
        not a.first_tokens
        and not b.first_tokens
        and a.inv_freq.shape == b.inv_freq.shape
        and abs(a.attention_scale / b.attention_scale - 1) < SAME
        and bool(np.allclose(a.inv_freq, b.inv_freq, rtol=SAME, atol=0))
    )


def knob_of(scheme: Scheme) -> tuple[str | None, float | None]:
    """Name the knob that moves the stretch, with its value; that of the scheme inside a wrapping one."""
    inner = getattr(scheme, "of", None)
    if isinstance(inner, Scheme):
        return knob_of(inner)
    knob = scheme.stretch_knob
    return (knob, getattr(scheme, knob)) if knob else (None, None)
