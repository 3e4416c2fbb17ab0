"""Learning rate as a pure function of the step, so that a resumed run needs no scheduler state."""

import math
from collections.abc import Callable

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
