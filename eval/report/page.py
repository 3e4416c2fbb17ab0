"""What does a reader of a report see?"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

from .html import bullets, cells, document, folded, heading, picture, small, table, table_of, verbatim
from .wording import (
    against,
    gain_with_interval,
    listed,
    sentences,
    subject_of,
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
    models = [m["name"] for m in report["models"]]
    rows = []
    for row in report["summary"]:
        task, values, gains = report["tasks"][row["task"]], row["values"], row["gains"]
        unit = unit_of(task["unit"])
        texts = [with_interval(values[m], unit) if m in values else "" for m in models]
        kind = "value" if gains else ""
        rows.append(f"<tr class='{kind}'>{cells([subject_of(row, task), *texts])}</tr>")
        if gains:
            gained = "".join(gain_cell(gains.get(m), unit) for m in models)
            rows.append(f"<tr class=gain>{cells([f'gain over {against(row, report)}'])}{gained}</tr>")
    return table_of(["", *models], rows) + small(how_to_read(report))


def gain_cell(gain: Any, unit: Any) -> str:
    if gain is None:
        return "<td></td>"
    sure = "" if gain["distinguishable"] else " class=unsure"
    return f"<td{sure}>{escape(gain_with_interval(gain, unit))}</td>"


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
        f"better; n.d.: not distinguishable from zero. {units[:1].upper()}{units[1:]}{'.' * bool(units)}"
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
            f"{m['original_length']} / {m['trained_length']} / {m['target_length']}",
            f"{m['seconds']:.0f} s",
        ]
        short = [f"<td><code>{escape(m[k][:12])}</code></td>" for k in ("fingerprint", "scheme_fingerprint")]
        rows.append(f"<tr>{cells(texts)}{''.join(short)}</tr>")
    head = ["model", "parameters", "scheme", "original / trained / target", "time", "weights", "frequencies"]
    return table_of(head, rows)
