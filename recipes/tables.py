"""How are named facts printed, one a row?"""

from collections.abc import Iterable

from rich.console import Console
from rich.table import Table
from rich.text import Text


def print_rows(rows: Iterable[tuple[str, str]], console: Console, *, title: str) -> None:
    """Print a title and a row for each fact; long ones fold."""
    table = Table(title=title, title_justify="left", show_header=False, box=None, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, text in rows:
        table.add_row(name, Text(text))
    console.print(table)
