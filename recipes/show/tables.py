"""How are named facts and reports printed?"""

from collections.abc import Iterable, Mapping
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ...eval.report.wording import summary_rows


def print_rows(rows: Iterable[tuple[str, str]], console: Console, *, title: str) -> None:
    """Print a title and a row for each fact; long ones fold."""
    table = Table(title=title, title_justify="left", show_header=False, box=None, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, text in rows:
        table.add_row(name, Text(text))
    console.print(table)


def print_report(report: Mapping[str, Any], console: Console) -> None:
    """Print the summary of a report, a column a model."""
    head, *rows = summary_rows(report)
    table = Table(*head, box=None, pad_edge=False, title=report["title"], title_justify="left")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    console.print(table)
