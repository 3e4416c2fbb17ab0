"""What does a reader see: one static page, pictures inside, nothing fetched from anywhere."""

import base64
import re
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from .wording import gain_with_interval, sentences, subject_of, with_interval

Report = Mapping[str, Any]

CSS = """
:root { --ink: #1f2933; --faint: #6b7785; --line: #e3e7eb; --wash: #f7f8f9; --accent: #0f7b8a; }
* { box-sizing: border-box; }
body { margin: 0; background: white; color: var(--ink);
  font: 16px/1.6 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
main { max-width: 60rem; margin: 0 auto; padding: 3rem 1.5rem 5rem; }
h1 { font-size: 2.1rem; line-height: 1.2; margin: 0 0 .3rem; letter-spacing: -.015em; }
h2 { font-size: 1.3rem; margin: 3rem 0 .6rem; padding-top: 1.2rem; border-top: 1px solid var(--line); }
p { margin: .5rem 0; max-width: 46rem; }
.lead { color: var(--faint); margin-bottom: 1.6rem; }
ul { padding-left: 1.2rem; max-width: 48rem; } li { margin: .3rem 0; }
figure { margin: 1.4rem 0; } img { display: block; width: 100%; height: auto; }
figcaption, .how { color: var(--faint); font-size: .88rem; max-width: 48rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; margin: 1rem 0; font-size: .88rem;
  font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: .42rem .7rem; border-bottom: 1px solid var(--line);
  white-space: nowrap; }
th:first-child, td:first-child { text-align: left; white-space: normal; }
thead th { color: var(--faint); font-weight: 600; border-bottom: 2px solid var(--line); }
tr.gain td { color: var(--accent); border-bottom: 1px solid var(--line); padding-top: 0; }
tr.value td { border-bottom: 0; }
tr.gain td.unsure { color: var(--faint); font-style: italic; }
code, pre { font: .85em/1.5 ui-monospace, "SF Mono", Menlo, Consolas, monospace;
  background: var(--wash); border-radius: 4px; }
code { padding: .1em .35em; overflow-wrap: anywhere; }
pre { padding: .8rem 1rem; overflow-x: auto; white-space: pre-wrap; }
details { margin: 1rem 0; } summary { cursor: pointer; color: var(--faint); font-size: .9rem; }
@media print { main { padding: 0; max-width: none; } h2 { break-after: avoid; }
  figure, tr { break-inside: avoid; } }
"""


def page(report: Report, pictures: Mapping[str, bytes]) -> str:
    """Return the whole report as one HTML text."""
    title = escape(report["title"])
    body = "".join(
        [
            f"<h1>{title}</h1>",
            f"<p class=lead>{escape(lead(report))}</p>",
            "<h2>What came out</h2>",
            bullet(sentences(report)) or "<p>One model, nothing to compare it with.</p>",
            summary_table(report),
            *(section(report, name, pictures.get(name)) for name in report["tasks"]),
            "<h2>What was measured</h2>",
            models_table(report),
            provenance(report),
        ]
    )
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{CSS}</style></head>'
        f"<body><main>{body}</main></body></html>\n"
    )


def lead(report: Report) -> str:
    names = [m["name"] for m in report["models"]]
    return (
        f"{len(names)} model{'s' * (len(names) > 1)} on the same held-out tokens: {', '.join(names)}. "
        f"{report['reference']} was trained to {report['boundary']} tokens. {report['date']}."
    )


def bullet(lines: Iterable[str]) -> str:
    items = "".join(f"<li>{escape(line[:1].upper() + line[1:])}</li>" for line in lines)
    return f"<ul>{items}</ul>" if items else ""


def summary_table(report: Report) -> str:
    """Show each pooled measurement with, beneath it, the gain over the reference."""
    models = [m["name"] for m in report["models"]]
    rows = []
    for row in report["summary"]:
        task = report["tasks"][row["task"]]
        values, gains = row["values"], row["gains"]
        cells = [with_interval(values[m], task["unit"]) if m in values else "" for m in models]
        kind = "value" if gains else ""
        rows.append(f"<tr class='{kind}'>{td([subject_of(row, task['label']), *cells])}</tr>")
        if gains:
            versus = row["against"] if row["part"] != row["against"] else report["reference"]
            rows.append(
                f"<tr class=gain>{td([f'gain over {versus}'])}{gain_cells(gains, models, task['unit'])}</tr>"
            )
    note = (
        "Brackets: 95 % intervals, by resampling documents (needles: Wilson's). Gains are paired, formed "
        "item by item; "
        "positive is better; n.d.: not distinguishable from zero. Loss in nats a token."
    )
    return table(["", *models], rows) + f"<p class=how>{note}</p>"


def gain_cells(gains: Mapping[str, Any], models: Sequence[str], unit: str) -> str:
    cells = []
    for model in models:
        if model not in gains:
            cells.append("<td></td>")
            continue
        sure = "" if gains[model]["distinguishable"] else " class=unsure"
        cells.append(f"<td{sure}>{escape(gain_with_interval(gains[model], unit))}</td>")
    return "".join(cells)


def section(report: Report, name: str, picture: bytes | None) -> str:
    """Show one task: its picture, how it was measured, and every number."""
    task = report["tasks"][name]
    parts = [f"<h2>{escape(re.sub('[_-]', ' ', name).capitalize())}</h2>"]
    if picture is not None:
        data = base64.b64encode(picture).decode()
        parts.append(f'<figure><img alt="{escape(name)}" src="data:image/png;base64,{data}"></figure>')
    parts.append(f"<p class=how>{escape(task['protocol'])}</p>")
    if "frame" in task["notes"]:
        frame = task["notes"]["frame"]
        example = f"{frame['statement'].strip()}\n...\n{frame['question']}{frame['answer']}"
        parts.append(f"<p class=how>The frame, with one needle of this run:</p><pre>{escape(example)}</pre>")
    parts.append(f"<details><summary>Every number</summary>{numbers(report, name)}</details>")
    return "".join(parts)


def numbers(report: Report, task: str) -> str:
    """List every score and every paired gain of a task."""
    unit = report["tasks"][task]["unit"]
    gains = {(g["model"], *place(g)): g for g in report["gains"] if g["task"] == task}
    rows = []
    for score in (s for s in report["scores"] if s["task"] == task):
        gained = gains.get((score["model"], *place(score)))
        where = f"{score['start']}-{score['length']}" if score["depth"] is None else f"{score['length']}"
        depth = "" if score["depth"] is None else f"{100 * score['depth']:.0f} %"
        change = gain_with_interval(gained, unit) if gained else ""
        cells = [
            score["model"],
            score["part"],
            where,
            depth,
            with_interval(score, unit),
            change,
            str(score["n"]),
        ]
        rows.append(f"<tr>{td(cells)}</tr>")
    return table(["model", "part", "tokens", "depth", "value", "gain", "n"], rows)


def place(row: Mapping[str, Any]) -> tuple:
    return row["part"], row["start"], row["length"], row["depth"]


def models_table(report: Report) -> str:
    rows = []
    for m in report["models"]:
        knobs = ", ".join(f"{k} {v}" for k, v in m["knobs"].items() if v is not None)
        scheme = f"{m['scheme']} ({knobs})" if knobs else m["scheme"]
        cells = [
            m["name"],
            f"{m['parameters']:,}",
            scheme,
            f"{m['original_length']} / {m['trained_length']} / {m['target_length']}",
            f"{m['seconds']:.0f} s",
        ]
        short = [f"<td><code>{escape(m[k][:12])}</code></td>" for k in ("fingerprint", "scheme_fingerprint")]
        rows.append(f"<tr>{td(cells)}{''.join(short)}</tr>")
    head = ["model", "parameters", "scheme", "original / trained / target", "time", "weights", "frequencies"]
    return table(head, rows)


def provenance(report: Report) -> str:
    lines = [
        f"<p class=how>Corpus <code>{escape(report['corpus'])}</code>, seed {report['seed']}, "
        f"{escape(report['date'])}. "
        "Every value per document and per needle stands in report.json.</p>"
    ]
    if report["command"]:
        lines.append(f"<pre>{escape(report['command'])}</pre>")
    return "".join(lines)


def table(head: Sequence[str], rows: Iterable[str]) -> str:
    names = "".join(f"<th>{escape(name)}</th>" for name in head)
    return (
        f"<div class=wide><table><thead><tr>{names}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def td(cells: Iterable[str]) -> str:
    return "".join(f"<td>{escape(cell)}</td>" for cell in cells)
