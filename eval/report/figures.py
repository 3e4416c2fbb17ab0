"""Which pictures does a report have? One a task, by the kind of picture the task asks for."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from .wording import capital, unit_of

Report = Mapping[str, Any]
Row = Mapping[str, Any]

INK, FAINT, GRID = "#1f2933", "#6b7785", "#e6e9ed"
# The reference is grey; the others differ in lightness too, for readers who do not see the colours.
COLOURS = ("#7b8794", "#e08e2b", "#0f7b8a", "#7a4fa3", "#b8323f", "#4d7c2a")
FOUND = LinearSegmentedColormap.from_list("found", ["#c8553d", "#f2d492", "#2a9d8f"])
STYLE: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 11,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "text.color": INK,
    "svg.hashsalt": "ropewalk",
}
DPI = 200
AXES = {"positions": "position in the document", "prompts": "prompt"}


def draw(report: Report) -> dict[str, bytes]:
    """Draw the picture of every task that asks for one: PNG bytes by task name."""
    pictures = {}
    for name, task in report["tasks"].items():
        if task["picture"] is not None:
            with mpl.rc_context(STYLE):
                pictures[name] = png(PICTURES[task["picture"]](report, name))
    return pictures


def png(figure: Figure) -> bytes:
    """Render a figure; the bytes depend on nothing but the figure."""
    FigureCanvasAgg(figure)
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=DPI, metadata={"Software": None}, facecolor="white")
    return out.getvalue()


def curve(report: Report, task: str) -> Figure:
    """Draw a value along the window, intervals shaded, the reference's trained length marked."""
    figure = Figure(figsize=(8, 4.6), layout="constrained")
    axes = figure.add_subplot()
    words = report["tasks"][task]
    place = middle if words["axis"] == "positions" else stop_of
    measured = [r for r in report["scores"] if r["task"] == task]
    labels = []
    for name, colour in colours(report).items():
        rows = [r for r in measured if r["model"] == name]
        at = [place(r) for r in rows]
        value, low, high = ([r[key] for r in rows] for key in ("value", "low", "high"))
        axes.fill_between(at, low, high, color=colour, alpha=0.13, linewidth=0)
        axes.plot(at, value, color=colour, linewidth=2.2, marker="o", markersize=4.2, solid_capstyle="round")
        labels.append((value[-1], name, colour))
    stop = max(map(stop_of, measured))
    length_axis(axes, report, min(map(place, measured)), stop)
    axes.set_xlabel(f"{AXES[words['axis']]} (tokens)")
    axes.set_ylabel(f"{words['quantity']} ({unit_of(words['unit']).axis})")
    label_ends(axes, labels, x=stop)
    headline(figure, f"{words['quantity']} along the window")
    return figure


def middle(row: Row) -> float:
    """Return where a bucket of positions stands on a log axis."""
    return float(np.sqrt(max(row["start"], row["length"] / 4) * row["length"]))


def stop_of(row: Row) -> float:
    return row["length"]


def length_axis(axes: Axes, report: Report, first: float, stop: float) -> None:
    """Label tokens by powers of two and mark where the reference's training ended."""
    boundary = report["boundary"]
    axes.set_xscale("log", base=2)
    left = first / 1.15
    axes.set_xlim(left, stop * 1.02)
    ticks = [2**k for k in range(40) if left <= 2**k <= stop]
    axes.set_xticks(ticks, [thousands(t) for t in ticks])
    axes.set_xticks([], minor=True)
    axes.grid(axis="y", color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    if left < boundary < stop:
        axes.axvspan(boundary, stop * 1.02, color="#f4f1ea", zorder=0, linewidth=0)
        axes.axvline(boundary, color=INK, linewidth=1.1, linestyle=(0, (4, 3)))
        text = f"{report['reference']} was trained to {thousands(boundary)}"
        top = {"xycoords": ("data", "axes fraction"), "va": "top"}
        beside(axes, text, (boundary, 1), (5, -4), fontsize=9.5, **top)


def label_ends(axes: Axes, labels: Sequence[tuple[float, str, str]], *, x: float) -> None:
    """Write each curve's name at its right end, pushed apart where ends lie close."""
    low, high = axes.get_ylim()
    gap = (high - low) * 0.062
    place = -np.inf
    for value, name, colour in sorted(labels):
        place = max(value, place + gap)
        look = {"color": colour, "fontweight": "bold", "annotation_clip": False}
        beside(axes, name, (x, place), (9, 0), **look)


def beside(axes: Axes, text: str, at: tuple[float, float], shift: tuple[float, float], **look: Any) -> None:
    """Write beside a point, `shift` printer's points away."""
    given: dict[str, Any] = {"textcoords": "offset points", "va": "center", "color": INK}
    axes.annotate(text, at, xytext=shift, **given | look)


def headline(figure: Figure, text: str) -> None:
    figure.suptitle(capital(text), x=0.012, ha="left", fontsize=14, fontweight="bold")


def grid(report: Report, task: str) -> Figure:
    """Draw one heat map a model: prompt length across, depth down, the value written in each field."""
    names, words = list(colours(report)), report["tasks"][task]
    unit = unit_of(words["unit"])
    rows = [r for r in report["scores"] if r["task"] == task]
    lengths = sorted({r["length"] for r in rows})
    depths = sorted({r["depth"] for r in rows})
    share = words["unit"] == "fraction"
    low, high = (0, 1) if share else (min(r["value"] for r in rows), max(r["value"] for r in rows))
    figure = Figure(figsize=(max(8, 2.9 * len(names)), 1.5 + 0.42 * len(depths)), layout="constrained")
    panels = np.atleast_1d(figure.subplots(1, len(names), sharey=True))
    for axes, name in zip(panels, names, strict=True):
        values = {(r["depth"], r["length"]): r["value"] for r in rows if r["model"] == name}
        field = np.array([[values[d, n] for n in lengths] for d in depths])
        tint = axes.imshow(field, cmap=FOUND, vmin=low, vmax=high, aspect="auto").norm
        for (i, j), value in np.ndenumerate(field):
            shade = INK if 0.2 <= tint(value) <= 0.85 else "white"
            text = f"{unit.scale * value:.{unit.digits}f}"
            axes.text(j, i, text, ha="center", va="center", fontsize=9, color=shade)
        axes.set_title(name, fontsize=11, fontweight="bold")
        axes.set_xticks(range(len(lengths)), [thousands(n) for n in lengths], rotation=45, ha="right")
        axes.set_yticks(range(len(depths)), ["" if d is None else f"{100 * d:.0f} %" for d in depths])
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        inside = sum(n <= report["boundary"] for n in lengths)
        if 0 < inside < len(lengths):
            axes.axvline(inside - 0.5, color=INK, linewidth=1.3, linestyle=(0, (4, 3)))
    panels[0].set_ylabel("" if None in depths else "depth in the prompt")
    figure.supxlabel(f"{AXES[words['axis']]} (tokens); dashed: the reference's trained length", fontsize=10)
    headline(figure, f"{words['label']}, {'%' if share else unit.axis}")
    return figure


def bars(report: Report, task: str) -> Figure:
    """Draw each model's gain with its interval; hollow where it cannot be told from zero."""
    tint, words = colours(report), report["tasks"][task]
    unit = unit_of(words["unit"])
    gains = [r for r in report["gains"] if r["task"] == task][::-1]
    # A reference far beyond its window loses so much that its bar would flatten the others; the table has it.
    rows = [r for r in gains if r["model"] != report["reference"]] or gains
    figure = Figure(figsize=(8, 1.5 + 0.55 * len(rows)), layout="constrained")
    axes = figure.add_subplot()
    for y, row in enumerate(rows):
        colour = tint[row["model"]]
        solid = row["distinguishable"]
        axes.barh(
            y, row["value"], height=0.55, color=colour if solid else "white", edgecolor=colour, linewidth=1.4
        )
        error = [[row["value"] - row["low"]], [row["high"] - row["value"]]]
        axes.errorbar(row["value"], y, xerr=error, color=INK, capsize=4, linewidth=1.3)
        edge, shift, side = (row["high"], 7, "left") if row["value"] >= 0 else (row["low"], -7, "right")
        text = unit.signed(row["value"]) + ("" if solid else " (n.d.)")
        beside(axes, text, (edge, y), (shift, 0), ha=side, fontsize=10)
    axes.axvline(0, color=INK, linewidth=1)
    axes.set_yticks(range(len(rows)), [r["model"] for r in rows])
    axes.tick_params(axis="y", length=0, labelcolor=INK)
    axes.margins(x=0.22)
    axes.grid(axis="x", color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines["left"].set_visible(False)
    left_out = [f"; not drawn: {r['model']} {unit.signed(r['value'])}" for r in gains if r not in rows]
    axes.set_xlabel(f"{unit.axis}; right of zero is better{''.join(left_out)}")
    versus = where = ""
    if rows:
        base = rows[0]["against"]
        versus = f"over {report['reference']}" + (f"'s {base}" if base else "")
        start = f"{rows[0]['start']}-" if words["axis"] == "positions" else ""
        where = f", {words['axis']} {start}{rows[0]['length']}"
    headline(figure, f"gain {versus}{where}")
    return figure


def colours(report: Report) -> dict[str, str]:
    """Give every model its colour, the reference the grey one."""
    names = [m["name"] for m in report["models"]]
    others = [n for n in names if n != report["reference"]]
    tint = {name: COLOURS[1 + i % (len(COLOURS) - 1)] for i, name in enumerate(others)}
    return {name: tint.get(name, COLOURS[0]) for name in names}


def thousands(tokens: int) -> str:
    return f"{tokens // 1024}K" if tokens >= 1024 and tokens % 1024 == 0 else str(tokens)


PICTURES: dict[str, Callable[[Report, str], Figure]] = {"curve": curve, "grid": grid, "bars": bars}
