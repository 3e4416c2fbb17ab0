"""What did each step come to? The lines of metrics.jsonl, which a resume cuts and a guard reads again."""

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path

from .storage import append_json, write_text

METRICS = "metrics.jsonl"
BY_STEP = (METRICS, "evaluations.jsonl")
"""Files of a run with lines of a step each."""


@dataclass(frozen=True, kw_only=True)
class StepRecord:
    """One line of metrics.jsonl: loss in nats a token, gradient norm before clipping, tokens so far.

    Both are null where they are no number, and where a step that is known to be bad was not computed.
    """

    step: int
    stage: int
    loss: float | None
    grad_norm: float | None
    learning_rate: float
    tokens: int
    tokens_per_second: float
    seconds: float
    skipped: bool = False
    reason: str | None = None
    """Why a step was skipped."""

    def write(self, run_dir: Path) -> None:
        """Append the line."""
        append_json(run_dir / METRICS, asdict(self))


def number(value: float) -> float | None:
    """Return what JSON can hold: a number, or null for what is none."""
    return value if math.isfinite(value) else None


def keep_until(run_dir: Path, step: int) -> None:
    """Drop the lines of steps after `step`, which will come again, and one that a kill cut short."""
    for path in (run_dir / name for name in BY_STEP):
        if path.exists():
            lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
            whole = (line for line in lines if line.endswith("\n"))
            write_text(path, "".join(line for line in whole if json.loads(line)["step"] <= step))


def taken(run_dir: Path, stage: int) -> list[tuple[float, float]]:
    """Read the loss and gradient norm of a stage's steps that were taken, in their order."""
    path = run_dir / METRICS
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    found = [line for line in map(json.loads, lines) if line["stage"] == stage]
    return [(line["loss"], line["grad_norm"]) for line in found if not line.get("skipped")]
