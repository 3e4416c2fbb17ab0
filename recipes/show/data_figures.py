"""What does a mix look like? Tokens by document length and source, and which distances they train."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ...eval.report.figures import COLOURS, FAINT, GRID, STYLE, Axes, Figure, mpl, png, thousands

Report = Mapping[str, Any]


def draw(told: Report, *, title: str, trained_length: int | None) -> bytes:
    """Draw what `prepare --dry-run` tells of a stage, as PNG bytes."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(9, 7.6), layout="constrained")
        above, below = figure.subplots(2, 1)
        lengths(above, told)
        distances(below, told, trained_length)
        for axes in (above, below):
            axes.grid(axis="y", color=GRID, linewidth=0.8)
            axes.set_axisbelow(True)
        figure.suptitle(title, x=0.012, ha="left", fontsize=14, fontweight="bold")
        return png(figure)


def lengths(axes: Axes, told: Report) -> None:
    """Stack each source's tokens by octave of the length of the documents they come from."""
    starts = [bucket["start"] for bucket in told["buckets"]]
    octaves = [1 << n for n in range(min(starts).bit_length() - 1, max(starts).bit_length())]
    below = np.zeros(len(octaves))
    sources = list(dict.fromkeys(bucket["source"] for bucket in told["buckets"]))
    for source, colour in zip(sources, COLOURS[1:] * len(sources), strict=False):
        own = {bucket["start"]: bucket["tokens"] for bucket in told["buckets"] if bucket["source"] == source}
        height = np.array([own.get(octave, 0) for octave in octaves], float)
        axes.bar(range(len(octaves)), height, bottom=below, color=colour, width=0.82, label=source)
        below += height
    axes.set_xticks(range(len(octaves)), [thousands(octave) for octave in octaves], fontsize=9)
    axes.set_xlabel("document length, tokens, from")
    axes.set_ylabel("tokens of the plan")
    axes.yaxis.set_major_formatter(lambda value, _: short(value))
    axes.legend(frameon=False, fontsize=10, ncols=4, loc="lower left", bbox_to_anchor=(0, 1.0))


def distances(axes: Axes, told: Report, trained_length: int | None) -> None:
    """Draw the share of query-key pairs by octave of distance, those beyond the trained window in colour."""
    octaves = [octave for octave in told["coverage"] if octave["stop"] > 1]
    every = sum(octave["pairs"] for octave in octaves) or 1
    new = [trained_length is not None and octave["start"] >= trained_length for octave in octaves]
    colours = [COLOURS[2] if far else COLOURS[0] for far in new]
    axes.bar(range(len(octaves)), [octave["pairs"] / every for octave in octaves], color=colours, width=0.82)
    axes.set_xticks(range(len(octaves)), [thousands(octave["start"]) for octave in octaves], fontsize=9)
    axes.set_xlabel("distance between query and key, tokens, from")
    axes.set_ylabel("share of query-key pairs")
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    if trained_length is not None:
        share = sum(o["pairs"] for o, far in zip(octaves, new, strict=True) if far) / every
        window = thousands(trained_length)
        told_so = f"{share:.1%} of the pairs lie at or beyond the trained window of {window}"
        axes.text(0, 1.02, told_so, transform=axes.transAxes, color=FAINT, fontsize=10)


def short(value: float) -> str:
    """Write a count in at most four characters and a letter."""
    for size, letter in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "K")):
        if value >= size:
            return f"{value / size:.3g}{letter}"
    return f"{value:.3g}"
