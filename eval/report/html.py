"""What is a page made of? One static text: style and pictures inside, nothing fetched from anywhere."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from html import escape

from .wording import capital

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
tr:has(+ tr.gain) td { border-bottom: 0; }
tr.gain td.unsure { color: var(--faint); font-style: italic; }
code, pre { font: .85em/1.5 ui-monospace, "SF Mono", Menlo, Consolas, monospace;
  background: var(--wash); border-radius: 4px; }
code { padding: .1em .35em; overflow-wrap: anywhere; }
pre { padding: .8rem 1rem; overflow-x: auto; white-space: pre-wrap; }
details { margin: 1rem 0; } summary { cursor: pointer; color: var(--faint); font-size: .9rem; }
@media print { main { padding: 0; max-width: none; } h2 { break-after: avoid; }
  figure, tr { break-inside: avoid; } }
"""


def document(title: str, lead: str, parts: Iterable[str]) -> str:
    """Return a whole page: its title, a line about all of it, and what follows."""
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{CSS}</style></head>'
        f"<body><main><h1>{escape(title)}</h1><p class=lead>{escape(lead)}</p>{''.join(parts)}</main></body>"
        "</html>\n"
    )


def heading(text: str) -> str:
    return f"<h2>{escape(capital(text))}</h2>"


def picture(name: str, png: bytes) -> str:
    data = base64.b64encode(png).decode()
    return f'<figure><img alt="{escape(name)}" src="data:image/png;base64,{data}"></figure>'


def small(text: str) -> str:
    return f"<p class=how>{escape(text)}</p>"


def verbatim(text: str) -> str:
    return f"<pre>{escape(text)}</pre>" if text else ""


def bullets(lines: Iterable[str]) -> str:
    items = "".join(f"<li>{escape(capital(line))}</li>" for line in lines)
    return f"<ul>{items}</ul>" if items else ""


def folded(summary: str, content: str) -> str:
    return f"<details><summary>{escape(summary)}</summary>{content}</details>"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    return table_of(head, (f"<tr>{cells(row)}</tr>" for row in rows))


def table_of(head: Sequence[str], rows: Iterable[str]) -> str:
    """Make a table of rows that are HTML already."""
    names = "".join(f"<th>{escape(name)}</th>" for name in head)
    return (
        f"<div class=wide><table><thead><tr>{names}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def cells(texts: Iterable[str]) -> str:
    return "".join(f"<td>{escape(text)}</td>" for text in texts)
