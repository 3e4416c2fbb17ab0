"""What does a reader of a report see?"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any

from .html import bullets, cells, document, folded, heading, picture, small, table, table_of, verbatim
from .wording import (
    GAIN,
    UNSURE,
    capital,
    gain_with_interval,
    listed,
    sentences,
    summary_rows,
    unit_of,
    with_interval,
)

Report = Mapping[str, Any]


def page(report: Report, pictures: Mapping[str, bytes]) -> str:
    """Return the whole report as one HTML text."""
    parts = [
        heading("What came out"),
        bullets(sentences(report)) or "<p>One model, nothing to compare it with.</p>",
        summary_table(report),
        *(section(report, name, pictures.get(name)) for name in report["tasks"]),
        heading("What was measured"),
        models_table(report),
        f"<p class=how>Corpus <code>{escape(report['corpus'])}</code>, seed {report['seed']}, "
        f"{escape(report['date'])}. Every value of each item stands in report.json.</p>",
        verbatim(report["command"]),
    ]
    return document(report["title"], lead(report), parts)


def lead(report: Report) -> str:
    names = [m["name"] for m in report["models"]]
    return (
        f"{len(names)} model{'s' * (len(names) > 1)} on the same held-out tokens: {', '.join(names)}. "
        f"{report['reference']} was trained to {report['boundary']} tokens. {report['date']}."
    )


def summary_table(report: Report) -> str:
    """Show each pooled measurement with, beneath it, the gain over the reference."""
    head, *rows = summary_rows(report)
    return table_of(head, map(summary_row, rows)) + small(how_to_read(report))


def summary_row(texts: Sequence[str]) -> str:
    """Colour gains, and fade those that cannot be told from zero."""
    if not texts[0].startswith(GAIN):
        return f"<tr>{cells(texts)}</tr>"
    tags = [f"<td{' class=unsure' * text.endswith(UNSURE)}>{escape(text)}</td>" for text in texts]
    return f"<tr class=gain>{''.join(tags)}</tr>"


def how_to_read(report: Report) -> str:
    """Say how intervals and gains of these tasks are formed, and what their values are."""
    tasks = report["tasks"].values()
    counted = listed(task["items"] for task in tasks if task["unit"] == "fraction")
    resampled = listed(task["items"] for task in tasks if task["unit"] != "fraction")
    ways = [f"by resampling {resampled}"] * bool(resampled) + [f"Wilson's for {counted}"] * bool(counted)
    units = listed(
        f"{task['quantity']} in {unit_of(task['unit']).axis}" for task in tasks if task["unit"] != "fraction"
    )
    return (
        f"Brackets: 95 % intervals, {', '.join(ways)}. Gains are paired, formed item by item; positive is "
        "better; n.d.: not distinguishable from zero, or too few that differ to tell. "
        f"{capital(units)}{'.' * bool(units)}"
    ).strip()


def section(report: Report, name: str, png: bytes | None) -> str:
    """Show one task: its picture, how it was measured, and every number."""
    task = report["tasks"][name]
    parts = [heading(re.sub("[_-]", " ", name))]
    if png is not None:
        parts.append(picture(name, png))
    parts.append(small(task["protocol"]))
    if "frame" in task["notes"]:
        frame = task["notes"]["frame"]
        parts.append(small(f"The frame, with one of the {task['items']} of this run:"))
        parts.append(verbatim(f"{frame['statement'].strip()}\n...\n{frame['question']}{frame['answer']}"))
    head = ["model", "part", "tokens", "depth", "value", "gain", "n"]
    parts.append(folded("Every number", table(head, numbers(report, name))))
    return "".join(parts)


def numbers(report: Report, name: str) -> Iterator[list[str]]:
    """List every score and every paired gain of a task."""
    task = report["tasks"][name]
    unit = unit_of(task["unit"])
    gains = {(g["model"], *place(g)): g for g in report["gains"] if g["task"] == name}
    for score in (s for s in report["scores"] if s["task"] == name):
        gained = gains.get((score["model"], *place(score)))
        stop = f"{score['length']}"
        yield [
            score["model"],
            score["part"],
            stop if task["axis"] == "prompts" else f"{score['start']}-{stop}",
            "" if score["depth"] is None else f"{100 * score['depth']:.0f} %",
            with_interval(score, unit),
            gain_with_interval(gained, unit) if gained else "",
            str(score["n"]),
        ]


def place(row: Mapping[str, Any]) -> tuple:
    return row["part"], row["start"], row["length"], row["depth"]


def models_table(report: Report) -> str:
    rows = []
    for m in report["models"]:
        knobs = ", ".join(f"{k} {v}" for k, v in m["knobs"].items() if v is not None)
        texts = [
            m["name"],
            f"{m['parameters']:,}",
            f"{m['scheme']} ({knobs})" if knobs else m["scheme"],
            f"{m['original_length'] or 'not stated'} / {m['trained_length']} / {m['target_length']}",
            f"{m['seconds']:.0f} s",
        ]
        short = [f"<td><code>{escape(m[k][:12])}</code></td>" for k in ("fingerprint", "scheme_fingerprint")]
        rows.append(f"<tr>{cells(texts)}{''.join(short)}</tr>")
    head = ["model", "parameters", "scheme", "original / trained / target", "time", "weights", "frequencies"]
    return table_of(head, rows)
