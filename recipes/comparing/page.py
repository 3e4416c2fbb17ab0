"""How does a comparison reach the disk: report.json, one static page and a picture a measurement?"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping
from html import escape
from pathlib import Path
from typing import Any

from ...eval.page import CSS, bullet, table, td
from ...eval.ranking import ranking_sentence
from ...eval.report import write_whole
from ...eval.wording import gain_with_interval, with_interval
from .show import measurement, measurements, settings_table, title_of

Report = Mapping[str, Any]


def write_comparison(report: Report, folder: Path) -> list[Path]:
    """Write a comparison's files, each complete or absent; report.html is the last."""
    from .figures import draw  # matplotlib takes a second that no other verb should wait for

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
