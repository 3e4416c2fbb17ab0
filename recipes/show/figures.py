"""What does a scheme look like? One picture: wavelengths, divisors, and attention over distance."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

from ...eval.report.figures import COLOURS, GRID, INK, STYLE, Axes, Figure, mpl, png, thousands

Numbers = Mapping[str, Any]
PLAIN, OURS, ALARM = COLOURS[0], COLOURS[2], COLOURS[4]
TINTS = {"kept": "#eef3f0", "blended": "#f8f1e3", "interpolated": "#e6eef5", "faster": "#f6e6e6"}
DASHES, DOTS = (0, (4, 3)), (0, (1, 2))


def draw(told: Numbers) -> bytes:
    """Draw what `rope show --json` tells, as PNG bytes."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(9, 11.5), layout="constrained")
        above, middle, below = figure.subplots(3, 1, height_ratios=(1.25, 0.8, 1))
        wavelengths(above, told)
        (divisors if told["reach"] is None else relative_positions)(middle, told)
        decay(below, told)
        for axes in (above, middle, below):
            axes.grid(axis="y", color=GRID, linewidth=0.8)
            axes.set_axisbelow(True)
        handles, labels = above.get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower right", ncols=3, frameon=False, fontsize=10)
        figure.suptitle(title(told), x=0.012, ha="left", fontsize=14, fontweight="bold")
        return png(figure)


def title(told: Numbers) -> str:
    """Name the scheme, the windows, and the one number that compares it with others."""
    windows = f"{thousands(told['original_length'])} to {thousands(told['target_length'])} tokens"
    at = f"stretch {told['stretch']:.4g}" if told["reach"] is None else f"reach {told['reach']:.4g}"
    return f"{told['scheme']}, {windows}, {at}, attention scale {told['attention_scale']:.4g}"


def wavelengths(axes: Axes, told: Numbers) -> None:
    """Draw the wavelength of every pair, unscaled and by the scheme, between the two windows."""
    regions(axes, told)
    for name, start, stop in spans(usual_regions(told)):
        if stop - start > len(told["turns"]["original"]) / 10:
            axes.text(
                (start + stop - 1) / 2,
                1.01,
                name,
                ha="center",
                va="bottom",
                fontsize=9.5,
                transform=axes.get_xaxis_transform(),
            )
    pairs = range(len(told["wavelength"][0]))
    unscaled = [told["original_length"] / turns for turns in told["turns"]["original"]]
    axes.plot(pairs, unscaled, color=PLAIN, linewidth=1.8, label="unscaled")
    heads(axes, pairs, told["wavelength"], label=told["scheme"])
    hollow = [(pair, row[pair]) for row, at in rows(told, "wavelength", "unseen") for pair in at]
    if hollow:
        axes.plot(
            *zip(*hollow, strict=True), "o", color=ALARM, markerfacecolor="white", markersize=4.5,
            label="meets angles that pretraining never showed",
        )  # fmt: skip
    axes.set_yscale("log")
    for name, ours in (("original", False), ("target", True)):
        length = told[f"{name}_length"]
        axes.axhline(length, color=OURS if ours else INK, linewidth=1.1, linestyle=DASHES)
        axes.annotate(
            f"{name} {thousands(length)}",
            (0, length),
            xytext=(4, 3),
            textcoords="offset points",
            fontsize=9.5,
        )
    name_critical(axes, told)
    axes.set_ylabel("wavelength (tokens a turn)")
    axes.set_xlabel("pair of channels, fastest first")


def regions(axes: Axes, told: Numbers) -> None:
    """Shade what happens to each pair, and mark the critical dimension."""
    usual = usual_regions(told)
    axes.set_xlim(-0.5, len(usual) - 0.5)
    for name, start, stop in spans(usual):
        axes.axvspan(start - 0.5, stop - 0.5, color=TINTS[name], linewidth=0, zorder=0)
    critical = told["critical_dimension"] // 2
    if 0 < critical < len(usual):
        axes.axvline(critical - 0.5, color=INK, linewidth=1.1, linestyle=DOTS)


def name_critical(axes: Axes, told: Numbers) -> None:
    """Write beside the dotted line what it is, on the side that has room."""
    critical, pairs = told["critical_dimension"], told["rotary_dim"] // 2
    if not 0 < critical // 2 < pairs:
        return
    left = critical // 2 > 0.65 * pairs
    axes.annotate(
        f"critical dimension {critical} (pair {critical // 2})",
        (critical // 2 - 0.5, 0.03),
        xycoords=("data", "axes fraction"),
        xytext=(-5 if left else 5, 0),
        textcoords="offset points",
        ha="right" if left else "left",
        fontsize=9.5,
    )


def usual_regions(told: Numbers) -> list[str]:
    """Return the region of each pair, that of most heads where they differ."""
    return [Counter(column).most_common(1)[0][0] for column in zip(*told["regions"], strict=True)]


def spans(names: Sequence[str]) -> Iterator[tuple[str, int, int]]:
    """Yield name, start and stop of each run of equal names."""
    at = 0
    for name, run in groupby(names):
        start, at = at, at + len(list(run))
        yield name, start, at


def divisors(axes: Axes, told: Numbers) -> None:
    """Draw lambda of every pair, between 1 and the factor."""
    regions(axes, told)
    heads(axes, range(len(told["lambda"][0])), told["lambda"])
    axes.axhline(told["window_factor"], color=OURS, linewidth=1.1, linestyle=DASHES)
    label = f"factor {told['window_factor']:g}"
    axes.annotate(
        label, (0, told["window_factor"]), xytext=(4, -13), textcoords="offset points", fontsize=9.5
    )
    largest = max(told["window_factor"], *map(max, told["lambda"]))
    ticks = [2**k for k in range(20) if 2**k <= largest * 1.01]
    axes.set_yscale("log", base=2)
    axes.set_yticks(ticks, map(str, ticks))
    axes.set_ylabel("lambda (divisor)")
    axes.set_xlabel("pair of channels, fastest first")


def relative_positions(axes: Axes, told: Numbers) -> None:
    """Draw where an attention scheme puts keys by their distance, instead of divisors that are all 1."""
    distances = told["decay"]["distance"]
    axes.plot(distances, distances, color=PLAIN, linewidth=1.8)
    axes.plot(distances, told["decay"]["relative_position"], color=OURS, linewidth=2.2)
    axes.axhline(told["original_length"], color=INK, linewidth=1.1, linestyle=DASHES)
    distance_axis(axes, told)
    axes.set_yscale("log", base=2)
    ticks = [2**k for k in range(0, 40, 4) if 2**k <= told["target_length"]]
    axes.set_yticks(ticks, [thousands(tick) for tick in ticks])
    axes.set_yticks([], minor=True)
    axes.set_ylabel("relative position (tokens)")


def decay(axes: Axes, told: Numbers) -> None:
    """Draw what is left of q.k of like tokens at a distance: every point faint, their running mean strong."""
    curve, distances = told["decay"], told["decay"]["distance"]
    for lines, colour in (([curve["unscaled"]], PLAIN), (curve["scheme"], OURS)):
        heads(axes, distances, lines, color=colour, alpha=0.25, linewidth=0.9)
        heads(axes, distances, map(running_mean, lines), color=colour)
    axes.axhline(0, color=INK, linewidth=0.9)
    distance_axis(axes, told)
    axes.set_ylabel("q.k of like tokens, turned / unturned")


def distance_axis(axes: Axes, told: Numbers) -> None:
    """Label distances by powers of four and mark the original window."""
    axes.set_xscale("log", base=2)
    axes.set_xlim(1, told["target_length"])
    axes.axvline(told["original_length"], color=INK, linewidth=1.1, linestyle=DASHES)
    axes.annotate(
        f"original {thousands(told['original_length'])}", (told["original_length"], 0.02), xytext=(-4, 0),
        xycoords=("data", "axes fraction"), textcoords="offset points", ha="right", fontsize=9.5,
    )  # fmt: skip
    ticks = [2**k for k in range(0, 40, 2) if 2**k <= told["target_length"]]
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


def rows(told: Numbers, *names: str) -> zip:
    """Pair up the rows of several numbers."""
    return zip(*(told[name] for name in names), strict=True)
