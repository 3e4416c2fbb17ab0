"""How does anything reach the screen: lines, tables, JSON, and work while it goes on?

On a terminal work is shown as a bar in place; in a log as a plain line every ten seconds.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as Bars
from rich.table import Table
from rich.text import Text

from ...train.storage import strict_json
from ..options import rank

if TYPE_CHECKING:  # a list is printed without what eval and train need
    from ...eval.task import Progress
    from ...train.loop import StepRecord

SECONDS_BETWEEN_LINES = 10.0


def screen(*, stderr: bool = False, quiet: bool = False) -> Console:
    """Open the terminal on rank 0 and a mute one on the others; a file gets lines of 120 columns."""
    quiet = quiet or rank() != 0
    console = Console(quiet=quiet, highlight=False, stderr=stderr)
    return console if console.is_terminal else Console(quiet=quiet, highlight=False, stderr=stderr, width=120)


def tell(values: Any, show: Callable[[Any, Console], None], *, as_json: bool) -> None:
    """Print what a verb found on rank 0: as JSON, or as `show` lays it out."""
    if rank() != 0:
        return
    if as_json:
        sys.stdout.write(strict_json("stdout", values, indent=2) + "\n")
    else:
        show(values, screen())


def print_table(
    head: Sequence[str], rows: Iterable[Sequence[str]], console: Console, *, title: str | None = None
) -> None:
    """Print a row of text under each head, without lines."""
    table = Table(*head, box=None, pad_edge=False, title=title, title_justify="left")
    for row in rows:
        table.add_row(*map(Text, row))
    console.print(table)


def print_rows(rows: Iterable[tuple[str, str]], console: Console, *, title: str) -> None:
    """Print a title and a row for each fact; long ones fold."""
    table = Table(title=title, title_justify="left", show_header=False, box=None, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, text in rows:
        table.add_row(name, Text(text))
    console.print(table)


@contextmanager
def phases(console: Console) -> Iterator[Progress]:
    """Show phases of work as they are reported, each under its own name; of a total of 0 no end is known."""
    if not console.is_terminal or console.quiet:
        lines = PhaseLines(console)
        yield lines
        lines.close()
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Bars(*columns, console=console, transient=True) as bars:
        yield _bars(bars)


def _bars(bars: Bars) -> Progress:
    shown: dict[str, TaskID] = {}

    def progress(phase: str, done: int, total: int) -> None:
        if phase not in shown:
            shown[phase] = bars.add_task(phase, total=total or None)
        bars.update(shown[phase], completed=done, total=total or None)

    return progress


class PhaseLines:
    """Print a line of a phase every ten seconds, and what it came to before another begins."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.printed_at: dict[str, float] = {}
        self.held: dict[str, str] = {}

    def __call__(self, phase: str, done: int, total: int) -> None:
        if phase not in self.printed_at:
            self.close()
        self.held[phase] = f"{phase}: {done:,}" + (f" of {total:,}" if total else "")
        last = self.printed_at.get(phase, float("-inf"))
        if time.monotonic() - last >= SECONDS_BETWEEN_LINES or 0 < total == done:
            self.console.print(self.held.pop(phase), markup=False)
            self.printed_at[phase] = time.monotonic()

    def close(self) -> None:
        """Print what was reported last, where it was not printed."""
        for line in self.held.values():
            self.console.print(line, markup=False)
        self.held.clear()


class TrainingDisplay:
    """Show each step in place on a terminal; in a log, a line every ten seconds and at the last step."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.since_line = float("inf")
        self.bar = Bars(
            TextColumn("train"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("loss {task.fields[loss]:.3f}  {task.fields[speed]:,.0f} tokens/s"),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal or console.quiet,
        )

    def __enter__(self) -> TrainingDisplay:
        self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.stop()

    def on_step(self, record: StepRecord, total: int) -> None:
        if record.skipped:
            self.console.print(f"step {record.step}/{total}  skipped: {record.reason}", markup=False)
            return
        if self.console.is_terminal:
            self.show_bar(record, total)
            return
        self.since_line += record.seconds
        if self.since_line >= SECONDS_BETWEEN_LINES or record.step == total:
            self.since_line = 0.0
            left = (total - record.step) * record.seconds
            self.console.print(
                f"step {record.step}/{total}  loss {record.loss:.3f}  grad {record.grad_norm:.2f}  "
                f"{record.tokens_per_second:,.0f} tokens/s  {left / 60:.1f} min left",
                markup=False,
            )

    def show_bar(self, record: StepRecord, total: int) -> None:
        if not self.bar.task_ids:
            self.bar.add_task("train", total=total, completed=record.step - 1, loss=0.0, speed=0.0)
        self.bar.update(
            self.bar.task_ids[0], completed=record.step, loss=record.loss, speed=record.tokens_per_second
        )
