"""What a step is by its number alone: its learning rate, so that a resumed run needs no scheduler state; and
whether it has anything to learn."""

import math
from collections.abc import Callable

from ..data import Plan

Shape = Callable[[float], float]

# From 1 at the end of the warm-up to 0 at the last step, as a function of the fraction done.
SHAPES: dict[str, Shape] = {
    "cosine": lambda done: 0.5 * (1 + math.cos(math.pi * done)),
    "linear": lambda done: 1 - done,
    "constant": lambda done: 1.0,
}


def learning_rate(step: int, *, peak: float, kind: str, warmup: int, floor: float, steps: int) -> float:
    """Return the rate of optimizer step `step` (0-based) of `steps`.

    Warm-up rises linearly and reaches `peak` at step `warmup`; the decay ends at `floor * peak`.
    """
    if step < warmup:
        return peak * (step + 1) / (warmup + 1)
    done = (step - warmup) / max(1, steps - 1 - warmup)
    return peak * (floor + (1 - floor) * SHAPES[kind](min(1.0, done)))


def unlabelled_steps(plan: Plan, steps: int, packs: int) -> list[int]:
    """List the steps, of `packs` packs each, in which no token has a label: their mean loss is none."""
    return [
        step
        for step in range(min(steps, len(plan) // packs))
        if not any(plan.trained_tokens(pack) for pack in range(step * packs, (step + 1) * packs))
    ]


def unlabelled_problem(steps: list[int], packs: int) -> str:
    """Say that these steps train nothing."""
    named = ", ".join(map(str, steps[:4])) + (", ..." if len(steps) > 4 else "")
    return (
        f"train.batch_tokens: every step must have tokens with labels, got none in step {named}, of {packs} "
        "packs each; raise train.batch_tokens or mask less of data.sources"
    )
