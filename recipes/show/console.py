"""How does a training run show that it lives: a bar, or a plain line every few steps?"""

from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from ...train.loop import StepRecord

SECONDS_BETWEEN_LINES = 10.0


class TrainingDisplay:
    """Show each step in place on a terminal; in a log, a line every ten seconds and at the last step."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.since_line = float("inf")
        self.bar = Progress(
            TextColumn("train"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("loss {task.fields[loss]:.3f}  {task.fields[speed]:,.0f} tokens/s"),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal or console.quiet,
        )

    def __enter__(self) -> "TrainingDisplay":
        self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bar.stop()

    def on_step(self, record: StepRecord, total: int) -> None:
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
