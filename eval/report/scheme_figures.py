"""What does a comparison look like? A picture a measurement: schemes down, a panel a factor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .figures import COLOURS, FAINT, GRID, INK, STYLE, Axes, Figure, beside, headline, mpl, png
from .schemes import measured, title_of
from .wording import unit_of

Row = Mapping[str, Any]

LOOK = {
    "training-free": {"color": COLOURS[0], "markerfacecolor": "white", "offset": 0.17},
    "trained": {"color": COLOURS[2], "markerfacecolor": COLOURS[2], "offset": -0.17},
}


def draw(report: Row) -> dict[str, bytes]:
    """Draw every measurement: PNG bytes by its name."""
    with mpl.rc_context(STYLE):
        return {name: png(dots(rows, report)) for name, rows in measured(report).items()}


def dots(rows: Sequence[Row], report: Row) -> Figure:
    """Draw each scheme's value with its interval, training-free hollow and trained filled; a star: nobody is
    shown to be better."""
    factors = report["factors"]
    names = [one["scheme"] for one in report["schemes"]][::-1]
    figure = Figure(figsize=(2.2 + 2.9 * len(factors), 1.7 + 0.42 * len(names)), layout="constrained")
    panels = np.atleast_1d(figure.subplots(1, len(factors), sharey=True))
    for axes, factor in zip(panels, factors, strict=True):
        for row in (row for row in rows if row["factor"] == factor):
            column(axes, row, names)
        twins(axes, report["schemes"], factor, names)
        axes.set_title(f"{factor:g}x", fontsize=11, fontweight="bold")
        axes.grid(axis="x", color=GRID, linewidth=0.8)
        axes.set_axisbelow(True)
        axes.margins(x=0.12)
    panels[0].set_yticks(range(len(names)), names, color=INK)
    panels[0].set_ylim(-0.6, len(names) - 0.4)
    handles, labels = panels[-1].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower right", ncols=2, frameon=False, fontsize=10)
    unit, better = unit_of(rows[0]["unit"]), "right" if rows[0]["better"] == "higher" else "left"
    below = f"{unit.axis}; {better} is better; star: no other is shown to be better"
    figure.supxlabel(below, fontsize=10, x=0.02, ha="left")
    headline(figure, title_of(rows[0], report))
    return figure


def twins(axes: Axes, schemes: Sequence[Row], factor: float, names: Sequence[str]) -> None:
    """Say in an empty line whose numbers are its own."""
    for one in schemes:
        twin = one["settings"][f"{factor:g}"]["same_as"]
        if twin is not None:
            at = (0.03, names.index(one["scheme"]))
            where = ("axes fraction", "data")
            axes.annotate(f"as {twin}", at, xycoords=where, va="center", color=FAINT, fontsize=9)


def column(axes: Axes, row: Row, names: Sequence[str]) -> None:
    """Draw one ranking as dots with intervals, at the heights of its schemes."""
    look = dict(LOOK[row["mode"]])
    offset = look.pop("offset")
    shown = [name for name in names if name in row["values"]]
    at = [names.index(name) + offset for name in shown]
    value, low, high = ([row["values"][name][key] for name in shown] for key in ("value", "low", "high"))
    errors = [np.subtract(value, low), np.subtract(high, value)]
    axes.errorbar(
        value, at, xerr=errors, fmt="o", markersize=5.5, linewidth=1.3, capsize=2.5, label=row["mode"], **look
    )
    for x, y, name in zip(high, at, shown, strict=True):
        if row["places"][name] == 1:
            beside(axes, "★", (x, y), (4, 0), fontsize=9)
