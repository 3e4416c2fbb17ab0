"""How does a comparison reach the disk: report.json, one static page and a picture a measurement?"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping
from html import escape
from pathlib import Path
from typing import Any

from .page import CSS, bullet, table, td
from .ranking import ranking_sentence
from .report import write_whole
from .wording import gain_with_interval, number, with_interval

Report = Mapping[str, Any]


def settings_table(report: Report) -> tuple[list[str], list[list[str]]]:
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


def learning_rate(one: Mapping[str, Any]) -> str:
    """Say the rate in force, and where it is the largest or smallest of several that were tried."""
    rate, tried = one["learning_rate"], [float(rate) for rate in one["selection_losses"]]
    if rate is None:
        return "not trained"
    edge = {max(tried): ", the largest tried", min(tried): ", the smallest tried"} if tried[1:] else {}
    return f"{rate:g}{edge.get(rate, '')}"


def measurements(report: Report) -> Iterator[tuple[str, list[str], list[list[str]]]]:
    """Make a table a measurement: schemes down, factors and modes across, a star where nobody is better."""
    for key in dict.fromkeys(measurement(row) for row in report["rankings"]):
        columns = [row for row in report["rankings"] if measurement(row) == key]
        columns.sort(key=lambda row: (row["factor"], row["mode"] == "trained"))
        head = ["scheme", *(f"{row['factor']:g}x {row['mode']}" for row in columns)]
        rows = [[one["scheme"], *(value_in(row, one) for row in columns)] for one in report["schemes"]]
        yield title_of(columns[0], report), head, rows


def measurement(row: Mapping[str, Any]) -> tuple[str, str, str]:
    return row["task"], row["part"], row["side"]


def title_of(row: Mapping[str, Any], report: Report) -> str:
    """Name a measurement over all factors."""
    part = f" ({row['part']})" if row["part"] else ""
    side = "up to" if row["side"] == "inside" else "beyond"
    what = "prompts" if row["lengths"] else "positions"
    return f"{row['label']}{part}, {what} {side} {report['boundary']} tokens"


def value_in(row: Mapping[str, Any], one: Mapping[str, Any]) -> str:
    """Write a scheme's value in a column; a twin has the one of the scheme it is the same as."""
    label = one["settings"][f"{row['factor']:g}"]["same_as"] or one["scheme"]
    if label not in row["values"]:
        return "-"
    return number(row["values"][label]["value"], row["unit"]) + (" *" if row["places"][label] == 1 else "")


def write_comparison(report: Report, folder: Path) -> list[Path]:
    """Write a comparison's files, each complete or absent; report.html is the last."""
    from .scheme_figures import draw  # matplotlib takes a second that no other verb should wait for

    pictures = draw(report)
    files = {f"{name}.png": data for name, data in pictures.items()}
    files["report.json"] = (json.dumps(report, indent=1, allow_nan=False) + "\n").encode()
    files["report.html"] = page(report, pictures).encode()
    return [write_whole(folder / name, data) for name, data in files.items()]


def page(report: Report, pictures: Mapping[str, bytes]) -> str:
    """Return the whole report as one HTML text."""
    title = escape(report["title"])
    body = "".join(
        [
            f"<h1>{title}</h1><p class=lead>{escape(lead(report))}</p>",
            "<h2>How the schemes took part</h2>",
            plain_table(*settings_table(report)),
            bullet(report["notes"]),
            *sections(report, pictures),
            "<h2>What was run</h2>",
            provenance(report),
        ]
    )
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{CSS}</style></head>'
        f"<body><main>{body}</main></body></html>\n"
    )


def lead(report: Report) -> str:
    factors = ", ".join(f"{factor:g}x" for factor in report["factors"])
    seeds = f"{report['seeds']} seed" + "s" * (report["seeds"] > 1)
    return (
        f"The window of {report['original_length']} tokens at {factors}, on the same held-out tokens; "
        f"training: {report['train_tokens']:,} tokens a cell, {seeds}. "
        f"{report['date']}."
    )


def sections(report: Report, pictures: Mapping[str, bytes]) -> Iterator[str]:
    """Show each measurement: picture, table, ranking in words, every number."""
    for title, head, rows in measurements(report):
        mine = [row for row in report["rankings"] if title_of(row, report) == title]
        data = base64.b64encode(pictures[slug(mine[0])]).decode()
        yield f"<h2>{escape(title[:1].upper() + title[1:])}</h2>"
        yield f'<figure><img alt="{escape(title)}" src="data:image/png;base64,{data}"></figure>'
        yield plain_table(head, rows)
        yield f"<p class=how>{escape(report['protocols'][mine[0]['task']])} (at the longest target)</p>"
        yield bullet(f"{row['factor']:g}x, {row['mode']}: {ranking_sentence(row)}" for row in mine)
        yield f"<details><summary>Every number</summary>{numbers(mine)}</details>"


def slug(row: Mapping[str, Any]) -> str:
    """Name the picture of a measurement."""
    return "-".join(word for word in measurement(row) if word).replace(" ", "-")


def numbers(rows: list[Mapping[str, Any]]) -> str:
    """List every value with its interval, place and gain over the best of its column."""
    lines = []
    for row in rows:
        for name, value in row["values"].items():
            gain = row["gains"].get(name)
            cells = [
                name,
                f"{row['factor']:g}x {row['mode']}",
                with_interval(value, row["unit"]),
                str(row["places"][name]),
                gain_with_interval(gain, row["unit"]) if gain else "best",
                f"{100 * row['level']:.2f} %",
                str(row["n"]),
            ]
            lines.append(f"<tr>{td(cells)}</tr>")
    head = ["scheme", "column", "value (95 %)", "place", "gain over the best", "level of the gain", "n"]
    return table(head, lines)


def plain_table(head: list[str], rows: list[list[str]]) -> str:
    return table(head, [f"<tr>{td(row)}</tr>" for row in rows])


def provenance(report: Report) -> str:
    rows = [
        [
            one["cell"],
            f"{one['train_seconds']:.0f} s",
            f"{one['evaluate_seconds']:.0f} s",
            one["fingerprint"][:12],
        ]
        for one in report["cells"]
    ]
    plans = "; ".join(
        f"{factor}x {', '.join(one[:12] for one in own)}" for factor, own in report["plans"].items() if own
    )
    return (
        f"<p class=how>Weights <code>{report['weights'][:12]}</code>, "
        f"corpus <code>{report['corpus'][:12]}</code>, "
        f"plans (the same for every scheme): {escape(plans or 'none')}. Every value per document and needle "
        "stands in result.json of its cell.</p>"
        f"<details><summary>Every cell</summary>"
        f"{plain_table(['cell', 'training', 'measuring', 'fingerprint'], rows)}</details>"
        + (f"<pre>{escape(report['command'])}</pre>" if report["command"] else "")
    )
