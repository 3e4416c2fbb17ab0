"""What do a scheme and a mix look like? One picture each, from the numbers that `--json` gives.

A scheme: wavelengths, divisors, attention over distance. A mix: document lengths and distances trained.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

import numpy as np

from ...eval.report.figures import COLOURS, FAINT, GRID, INK, STYLE, Axes, Figure, mpl, png, thousands

Numbers = Mapping[str, Any]
PLAIN, OURS, ALARM = COLOURS[0], COLOURS[2], COLOURS[4]
TINTS = {"kept": "#eef3f0", "blended": "#f8f1e3", "interpolated": "#e6eef5", "faster": "#f6e6e6"}
DASHES, DOTS = (0, (4, 3)), (0, (1, 2))
FROM_BELOW = ("data", "axes fraction")


def draw_scheme(numbers: Numbers) -> bytes:
    """Draw what `rope show --json` tells, as PNG bytes."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(9, 11.5), layout="constrained")
        above, middle, below = figure.subplots(3, 1, height_ratios=(1.25, 0.8, 1))
        wavelengths(above, numbers)
        (divisors if numbers["reach"] is None else relative_positions)(middle, numbers)
        decay(below, numbers)
        lay_grid(above, middle, below)
        handles, labels = above.get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower right", ncols=3, frameon=False, fontsize=10)
        figure.suptitle(title(numbers), x=0.012, ha="left", fontsize=14, fontweight="bold")
        return png(figure)


def lay_grid(*several: Axes) -> None:
    """Draw faint lines at the heights of the ticks, behind everything."""
    for axes in several:
        axes.grid(axis="y", color=GRID, linewidth=0.8)
        axes.set_axisbelow(True)


def note(axes: Axes, words: str, at: tuple[float, float], shift: tuple[int, int], **where: Any) -> None:
    """Write beside a place, shifted by points; to the left of it where the shift is."""
    side = "right" if shift[0] < 0 else "left"
    axes.annotate(words, at, xytext=shift, textcoords="offset points", ha=side, fontsize=9.5, **where)


def title(numbers: Numbers) -> str:
    """Name the scheme, the windows, and the one number that compares it with others."""
    windows = f"{thousands(numbers['original_length'])} to {thousands(numbers['target_length'])} tokens"
    at = f"stretch {numbers['stretch']:.4g}" if numbers["reach"] is None else f"reach {numbers['reach']:.4g}"
    return f"{numbers['scheme']}, {windows}, {at}, attention scale {numbers['attention_scale']:.4g}"


def wavelengths(axes: Axes, numbers: Numbers) -> None:
    """Draw the wavelength of every pair, unscaled and by the scheme, between the two windows."""
    regions(axes, numbers)
    for name, start, stop in spans(usual_regions(numbers)):
        if stop - start > len(numbers["turns"]["original"]) / 10:
            above = {"ha": "center", "va": "bottom", "fontsize": 9.5}
            axes.text((start + stop - 1) / 2, 1.01, name, transform=axes.get_xaxis_transform(), **above)
    pairs = range(len(numbers["wavelength"][0]))
    unscaled = [numbers["original_length"] / turns for turns in numbers["turns"]["original"]]
    axes.plot(pairs, unscaled, color=PLAIN, linewidth=1.8, label="unscaled")
    heads(axes, pairs, numbers["wavelength"], label=numbers["scheme"])
    hollow = [(pair, row[pair]) for row, at in rows(numbers, "wavelength", "unseen") for pair in at]
    if hollow:
        axes.plot(
            *zip(*hollow, strict=True), "o", color=ALARM, markerfacecolor="white", markersize=4.5,
            label="meets angles that pretraining never showed",
        )  # fmt: skip
    axes.set_yscale("log")
    for name, ours in (("original", False), ("target", True)):
        length = numbers[f"{name}_length"]
        axes.axhline(length, color=OURS if ours else INK, linewidth=1.1, linestyle=DASHES)
        note(axes, f"{name} {thousands(length)}", (0, length), (4, 3))
    name_critical(axes, numbers)
    axes.set_ylabel("wavelength (tokens a turn)")
    axes.set_xlabel("pair of channels, fastest first")


def regions(axes: Axes, numbers: Numbers) -> None:
    """Shade what happens to each pair, and mark the critical dimension."""
    usual = usual_regions(numbers)
    axes.set_xlim(-0.5, len(usual) - 0.5)
    for name, start, stop in spans(usual):
        axes.axvspan(start - 0.5, stop - 0.5, color=TINTS[name], linewidth=0, zorder=0)
    critical = numbers["critical_dimension"] // 2
    if 0 < critical < len(usual):
        axes.axvline(critical - 0.5, color=INK, linewidth=1.1, linestyle=DOTS)


def name_critical(axes: Axes, numbers: Numbers) -> None:
    """Write beside the dotted line what it is, on the side that has room."""
    critical, pairs = numbers["critical_dimension"], numbers["rotary_dim"] // 2
    if not 0 < critical // 2 < pairs:
        return
    left = critical // 2 > 0.65 * pairs
    words = f"critical dimension {critical} (pair {critical // 2})"
    note(axes, words, (critical // 2 - 0.5, 0.03), (-5 if left else 5, 0), xycoords=FROM_BELOW)


def usual_regions(numbers: Numbers) -> list[str]:
    """Return the region of each pair, that of most heads where they differ."""
    return [Counter(column).most_common(1)[0][0] for column in zip(*numbers["regions"], strict=True)]


def spans(names: Sequence[str]) -> Iterator[tuple[str, int, int]]:
    """Yield name, start and stop of each run of equal names."""
    at = 0
    for name, run in groupby(names):
        start, at = at, at + len(list(run))
        yield name, start, at


def divisors(axes: Axes, numbers: Numbers) -> None:
    """Draw lambda of every pair, between 1 and the factor."""
    regions(axes, numbers)
    heads(axes, range(len(numbers["lambda"][0])), numbers["lambda"])
    axes.axhline(numbers["window_factor"], color=OURS, linewidth=1.1, linestyle=DASHES)
    note(axes, f"factor {numbers['window_factor']:g}", (0, numbers["window_factor"]), (4, -13))
    largest = max(numbers["window_factor"], *map(max, numbers["lambda"]))
    ticks = [2**k for k in range(20) if 2**k <= largest * 1.01]
    axes.set_yscale("log", base=2)
    axes.set_yticks(ticks, map(str, ticks))
    axes.set_ylabel("lambda (divisor)")
    axes.set_xlabel("pair of channels, fastest first")


def relative_positions(axes: Axes, numbers: Numbers) -> None:
    """Draw where an attention scheme puts keys by their distance, instead of divisors that are all 1."""
    distances = numbers["decay"]["distance"]
    axes.plot(distances, distances, color=PLAIN, linewidth=1.8)
    axes.plot(distances, numbers["decay"]["relative_position"], color=OURS, linewidth=2.2)
    axes.axhline(numbers["original_length"], color=INK, linewidth=1.1, linestyle=DASHES)
    distance_axis(axes, numbers)
    axes.set_yscale("log", base=2)
    ticks = [2**k for k in range(0, 40, 4) if 2**k <= numbers["target_length"]]
    axes.set_yticks(ticks, [thousands(tick) for tick in ticks])
    axes.set_yticks([], minor=True)
    axes.set_ylabel("relative position (tokens)")


def decay(axes: Axes, numbers: Numbers) -> None:
    """Draw what is left of q.k of like tokens at a distance: every point faint, their running mean strong."""
    curve, distances = numbers["decay"], numbers["decay"]["distance"]
    for lines, colour in (([curve["unscaled"]], PLAIN), (curve["scheme"], OURS)):
        heads(axes, distances, lines, color=colour, alpha=0.25, linewidth=0.9)
        heads(axes, distances, map(running_mean, lines), color=colour)
    axes.axhline(0, color=INK, linewidth=0.9)
    distance_axis(axes, numbers)
    axes.set_ylabel("q.k of like tokens, turned / unturned")


def distance_axis(axes: Axes, numbers: Numbers) -> None:
    """Label distances by powers of four and mark the original window."""
    axes.set_xscale("log", base=2)
    axes.set_xlim(1, numbers["target_length"])
    axes.axvline(numbers["original_length"], color=INK, linewidth=1.1, linestyle=DASHES)
    words = f"original {thousands(numbers['original_length'])}"
    note(axes, words, (numbers["original_length"], 0.02), (-4, 0), xycoords=FROM_BELOW)
    ticks = [2**k for k in range(0, 40, 2) if 2**k <= numbers["target_length"]]
    axes.set_xticks(ticks, [thousands(tick) for tick in ticks])
    axes.set_xticks([], minor=True)
    axes.set_xlabel("distance (tokens)")


def running_mean(values: Sequence[float], width: int = 15) -> list[float]:
    """Return the mean of each value and its neighbours, as many on both sides, so fewer near the ends."""
    means = []
    for at in range(len(values)):
        reach = min(width // 2, at, len(values) - 1 - at)
        near = values[at - reach : at + reach + 1]
        means.append(sum(near) / len(near))
    return means


def heads(axes: Axes, x: Any, lines: Iterable[Any], **look: Any) -> None:
    """Draw a line a head."""
    lines = list(lines)
    look = {"color": OURS, "linewidth": 2.2 if len(lines) == 1 else 1.0} | look
    for line in lines:
        axes.plot(x, line, **look)
        look.pop("label", None)


def rows(numbers: Numbers, *names: str) -> zip:
    """Pair up the rows of several numbers."""
    return zip(*(numbers[name] for name in names), strict=True)


def draw_mix(preview: Numbers, *, title: str, trained_length: int | None) -> bytes:
    """Draw what `prepare --dry-run --json` tells of a stage, as PNG bytes."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(9, 7.6), layout="constrained")
        above, below = figure.subplots(2, 1)
        lengths(above, preview)
        distances(below, preview, trained_length)
        lay_grid(above, below)
        figure.suptitle(title, x=0.012, ha="left", fontsize=14, fontweight="bold")
        return png(figure)


def lengths(axes: Axes, preview: Numbers) -> None:
    """Stack each source's tokens by octave of the length of the documents they come from."""
    starts = [bucket["start"] for bucket in preview["buckets"]]
    octaves = [1 << n for n in range(min(starts).bit_length() - 1, max(starts).bit_length())]
    below = np.zeros(len(octaves))
    sources = list(dict.fromkeys(bucket["source"] for bucket in preview["buckets"]))
    for source, colour in zip(sources, COLOURS[1:] * len(sources), strict=False):
        tokens = {b["start"]: b["tokens"] for b in preview["buckets"] if b["source"] == source}
        height = np.array([tokens.get(octave, 0) for octave in octaves], float)
        axes.bar(range(len(octaves)), height, bottom=below, color=colour, width=0.82, label=source)
        below += height
    axes.set_xticks(range(len(octaves)), [thousands(octave) for octave in octaves], fontsize=9)
    axes.set_xlabel("document length, tokens, from")
    axes.set_ylabel("tokens of the plan")
    axes.yaxis.set_major_formatter(lambda value, _: short(value))
    axes.legend(frameon=False, fontsize=10, ncols=4, loc="lower left", bbox_to_anchor=(0, 1.0))


def distances(axes: Axes, preview: Numbers, trained_length: int | None) -> None:
    """Draw the share of query-key pairs by octave of distance, those beyond the trained window in colour."""
    octaves = [octave for octave in preview["coverage"] if octave["stop"] > 1]
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
        line = f"{share:.1%} of the pairs lie at or beyond the trained window of {window}"
        axes.text(0, 1.02, line, transform=axes.transAxes, color=FAINT, fontsize=10)


def short(value: float) -> str:
    """Write a count in at most four characters and a letter."""
    for size, letter in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "K")):
        if value >= size:
            return f"{value / size:.3g}{letter}"
    return f"{value:.3g}"
