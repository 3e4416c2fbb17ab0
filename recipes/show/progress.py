"""How is work shown while it goes on: a bar on a terminal, a plain line every few seconds elsewhere."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

SECONDS_BETWEEN_LINES = 10.0

Report = Callable[[str, int, int], None]
"""Called with a phase, how much of it is done, and how much there is (0: unknown)."""


@contextmanager
def phases(console: Console) -> Iterator[Report]:
    """Show phases as they are reported, each under its own name."""
    if not console.is_terminal or console.quiet:
        yield _lines(console)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as bars:
        yield _bars(bars)


def _bars(bars: Progress) -> Report:
    shown: dict[str, TaskID] = {}

    def report(phase: str, done: int, total: int) -> None:
        if phase not in shown:
            shown[phase] = bars.add_task(phase, total=total or None)
        bars.update(shown[phase], completed=done, total=total or None)

    return report


def _lines(console: Console) -> Report:
    last: dict[str, float] = {}

    def report(phase: str, done: int, total: int) -> None:
        now = time.monotonic()
        if phase in last and now - last[phase] < SECONDS_BETWEEN_LINES and not 0 < total == done:
            return
        last[phase] = now
        console.print(f"{phase}: {done:,}" + (f" of {total:,}" if total else ""), markup=False)

    return report
