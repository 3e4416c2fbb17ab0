"""What does a comparison of schemes say: a table a measurement, and the page around them?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

from .html import bullets, document, folded, heading, picture, small, table, verbatim
from .wording import gain_with_interval, ranking_sentence, unit_of, with_interval

Row = Mapping[str, Any]


def settings_table(report: Row) -> tuple[list[str], list[list[str]]]:
    """Say for each scheme its stretch and knob at every factor, and its learning rate."""
    factors = [f"{factor:g}" for factor in report["factors"]]
    rows = [
        [
            one["scheme"],
            *(one["settings"][factor]["text"] for factor in factors),
            learning_rate(one),
        ]
        for one in report["schemes"]
    ]
    return ["scheme", *(f"{factor}x" for factor in factors), "learning rate"], rows


def learning_rate(one: Row) -> str:
    """Say the rate in force, and where it is the largest or smallest of several that were tried."""
    rate, tried = one["learning_rate"], [float(rate) for rate in one["selection_losses"]]
    if rate is None:
        return "not trained"
    edge = {max(tried): ", the largest tried", min(tried): ", the smallest tried"} if tried[1:] else {}
    return f"{rate:g}{edge.get(rate, '')}"


def measurements(report: Row) -> Iterator[tuple[str, list[str], list[list[str]]]]:
    """Make a table a measurement: schemes down, factors and modes across, a star where nobody is better."""
    for columns in measured(report).values():
        columns = sorted(columns, key=lambda row: (row["factor"], row["mode"] == "trained"))
        head = ["scheme", *(f"{row['factor']:g}x {row['mode']}" for row in columns)]
        rows = [[one["scheme"], *(value_in(row, one) for row in columns)] for one in report["schemes"]]
        yield title_of(columns[0], report), head, rows


def measured(report: Row) -> dict[str, list[Row]]:
    """Gather the rankings of each measurement, over factors and modes, under a name fit for a file."""
    found: dict[str, list[Row]] = {}
    for row in report["rankings"]:
        words = (row["task"], row["part"], row["side"])
        found.setdefault("-".join(filter(None, words)).replace(" ", "-"), []).append(row)
    return found


def title_of(row: Row, report: Row) -> str:
    """Name a measurement over all factors."""
    part = f" ({row['part']})" if row["part"] else ""
    side = "up to" if row["side"] == "inside" else "beyond"
    return f"{row['label']}{part}, {row['axis']} {side} {report['boundary']} tokens"


def value_in(row: Row, one: Row) -> str:
    """Write a scheme's value in a column; a twin has the one of the scheme it is the same as."""
    label = one["settings"][f"{row['factor']:g}"]["same_as"] or one["scheme"]
    if label not in row["values"]:
        return "-"
    return unit_of(row["unit"]).number(row["values"][label]["value"]) + " *" * (row["places"][label] == 1)


def page(report: Row, pictures: Mapping[str, bytes]) -> str:
    """Return the whole comparison as one HTML text."""
    parts = [
        heading("How the schemes took part"),
        table(*settings_table(report)),
        bullets(report["notes"]),
        *sections(report, pictures),
        heading("What was run"),
        provenance(report),
    ]
    return document(report["title"], lead(report), parts)


def lead(report: Row) -> str:
    factors = ", ".join(f"{factor:g}x" for factor in report["factors"])
    seeds = f"{report['seeds']} seed" + "s" * (report["seeds"] > 1)
    return (
        f"The window of {report['original_length']} tokens at {factors}, on the same held-out tokens; "
        f"training: {report['train_tokens']:,} tokens a cell, {seeds}. {report['date']}."
    )


def sections(report: Row, pictures: Mapping[str, bytes]) -> Iterator[str]:
    """Show each measurement: picture, table, ranking in words, every number."""
    for (name, rankings), (title, head, rows) in zip(
        measured(report).items(), measurements(report), strict=True
    ):
        yield heading(title) + picture(title, pictures[name])
        yield table(head, rows)
        yield small(f"{report['protocols'][rankings[0]['task']]} (at the longest target)")
        yield bullets(f"{row['factor']:g}x, {row['mode']}: {ranking_sentence(row)}" for row in rankings)
        yield folded("Every number", table(NUMBERS, numbers(rankings)))


NUMBERS = ["scheme", "column", "value (95 %)", "place", "gain over the best", "level of the gain", "n"]


def numbers(rankings: list[Row]) -> Iterator[list[str]]:
    """List every value with its interval, place and gain over the best of its column."""
    for row in rankings:
        unit = unit_of(row["unit"])
        for name, value in row["values"].items():
            gain = row["gains"].get(name)
            yield [
                name,
                f"{row['factor']:g}x {row['mode']}",
                with_interval(value, unit),
                str(row["places"][name]),
                gain_with_interval(gain, unit) if gain else "best",
                f"{100 * row['level']:.2f} %",
                str(row["n"]),
            ]


def provenance(report: Row) -> str:
    rows = [
        [
            cell["cell"],
            f"{cell['train_seconds']:.0f} s",
            f"{cell['evaluate_seconds']:.0f} s",
            cell["fingerprint"][:12],
        ]
        for cell in report["cells"]
    ]
    plans = "; ".join(
        f"{factor}x {', '.join(plan[:12] for plan in seeds)}"
        for factor, seeds in report["plans"].items()
        if seeds
    )
    return (
        f"<p class=how>Weights <code>{report['weights'][:12]}</code>, "
        f"corpus <code>{report['corpus'][:12]}</code>, "
        f"plans (the same for every scheme): {escape(plans or 'none')}. Every value of each item stands in "
        "result.json of its cell.</p>"
        + folded("Every cell", table(["cell", "training", "measuring", "fingerprint"], rows))
        + verbatim(report["command"])
    )
