"""With which learning rate, batch and budget were models of about this size extended to about this window?"""

from __future__ import annotations

import math
from typing import NamedTuple


class Published(NamedTuple):
    """What one run used; a batch and a budget in tokens."""

    source: str
    parameters: float
    window: int
    learning_rate: float
    batch_tokens: int
    tokens: float


MILLION = 1 << 20
RECIPES = (
    Published("LongRoPE2 on Phi-3-mini, arXiv:2502.20082", 3.8e9, 1 << 17, 2e-5, 8 * MILLION, 10e9),
    Published("ProLong's 64K stage, arXiv:2410.02660", 8e9, 1 << 16, 1e-5, 4 * MILLION, 20e9),
    Published("ProLong's 512K stage, arXiv:2410.02660", 8e9, 1 << 19, 5e-6, 8 * MILLION, 20e9),
    Published("UltraLong's 4M run, arXiv:2504.06214", 8e9, 1 << 22, 3e-5, 8 * MILLION, 1e9),
    Published("Untie the Knots at 128K, arXiv:2409.04774", 72e9, 1 << 17, 1e-5, 4 * MILLION, 20e9),
)


def nearest(parameters: float, window: int) -> Published:
    """Give the published run of the nearest size and, of those, of the nearest window."""

    def distance(run: Published) -> tuple[float, float]:
        return abs(math.log(run.parameters / parameters)), abs(math.log(run.window / window))

    return min(RECIPES, key=distance)
