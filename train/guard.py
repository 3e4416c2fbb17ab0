"""Is a step to be taken? Asked between the gradients and the optimizer, of two numbers and those before."""

import math
import statistics
from collections import deque
from collections.abc import Iterable, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Literal

from .errors import TrainError
from .mesh import Mesh
from .settings import TrainSection

WINDOW = 128
"""Taken steps of the stage that a step is held against."""
LEAST = 64
"""With fewer of them no step is a spike: their spread says too little."""
SIGMAS = 6.0
"""Standard deviations above the mean where a spike begins; OLMo-core's SkipStepOptimizer takes as many."""
IN_A_ROW = 8
"""Steps that may be skipped one after the other; more are no accident of the data."""

Step = tuple[float, float]
"""Loss in nats a token, gradient norm before clipping."""
NAMES = ("loss", "gradient norm")


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What is done with a step, by which key of `train` and why; a step that is taken has neither."""

    answer: Literal["take", "skip", "back", "stop"] = "take"
    rule: str = ""
    why: str | None = None


def judge(settings: TrainSection, step: Step, before: Sequence[Step]) -> Verdict:
    """Answer for a step by the rules of a recipe."""
    if why := not_finite(step):
        return Verdict(answer=settings.on_non_finite, rule="on_non_finite", why=why)
    if settings.on_spike != "take" and (why := spike(step, before)):
        return Verdict(answer=settings.on_spike, rule="on_spike", why=why)
    return Verdict()


def not_finite(step: Step) -> str:
    """Say which numbers of a step are none; nothing where both are."""
    return ", ".join(
        f"{name} {value}" for name, value in zip(NAMES, step, strict=True) if not math.isfinite(value)
    )


def spike(step: Step, before: Sequence[Step]) -> str:
    """Say which numbers of a step stand more than `SIGMAS` above the mean of the last `WINDOW` steps."""
    if len(before) < LEAST:
        return ""
    found = []
    for name, value, past in zip(NAMES, step, zip(*before[-WINDOW:], strict=True), strict=True):
        limit = statistics.fmean(past) + SIGMAS * statistics.stdev(past)
        if value > limit:
            found.append(f"{name} {value:.4g} above {limit:.4g}")
    return ", ".join(found)


class Guard:
    """Judge the steps of one stage by those of it that were taken before. Rank 0 answers for all."""

    def __init__(
        self,
        settings: TrainSection,
        mesh: Mesh,
        *,
        before: Iterable[Step],
        skipped: Iterable[int],
        avoided: MutableMapping[int, str],
    ) -> None:
        """`before` are the taken steps of the stage, needed on rank 0; `avoided` are the run's own."""
        self.settings, self.mesh = settings, mesh
        self.before, self.skipped, self.avoided = deque(before, maxlen=WINDOW), set(skipped), avoided

    def judge(self, number: int, step: Step) -> Verdict:
        """Answer for step `number` of the run, alike on every rank; a TrainError is the answer to stop."""
        if number in self.avoided:
            verdict = Verdict(answer="skip", rule="back", why=self.avoided[number])
        else:
            verdict = self.mesh.from_main(judge(self.settings, step, list(self.before)))
        why = verdict.why or ""
        match verdict.answer:
            case "take":
                self.before.append(step)
            case "stop":
                raise TrainError(stopped(number, verdict))
            case "skip":
                self.check_few_in_a_row(number, why)
                self.skipped.add(number)
            case "back":
                self.check_few_in_a_row(number, why)
                self.avoided[number] = why
        return verdict

    def check_few_in_a_row(self, number: int, why: str) -> None:
        """Refuse to pass over a step where those just before it were passed over already."""
        first = number
        while first - 1 in self.skipped or first - 1 in self.avoided:
            first -= 1
        if number - first >= IN_A_ROW:
            raise TrainError(
                f"train: at most {IN_A_ROW} steps in a row may be skipped, got steps {first} to {number}, "
                f"the last for {why}; the run has diverged: lower train.learning_rate or lengthen "
                "train.schedule.warmup"
            )


def stopped(number: int, verdict: Verdict) -> str:
    """Say that a run stops before a step, and how it may go on."""
    holds = (
        "loss and gradient must be finite"
        if verdict.rule == "on_non_finite"
        else f"no step may stand {SIGMAS:g} sigma above the mean of the last {WINDOW}"
    )
    return (
        f"train.{verdict.rule}: {holds}, got {verdict.why} at step {number}; it was not taken and the last "
        f"checkpoint is as it was: set train.{verdict.rule}=skip to go on without it, or lower "
        "train.learning_rate or lengthen train.schedule.warmup in a new run_dir"
    )
