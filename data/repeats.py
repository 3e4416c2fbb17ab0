"""Which rows make a small model learn to copy? Half a row of shuffled real tokens, then the same half again.

Nothing but an earlier occurrence tells the second half, so induction heads form early (Olsson et al. 2022,
arXiv 2209.11895).
"""

from __future__ import annotations

import numpy as np


def repeat_row(text: np.ndarray, rng: np.random.Generator, length: int) -> np.ndarray:
    """Give uint32 [2 * (length // 2)]: tokens drawn from `text` without its order, twice."""
    chunk = text[rng.integers(len(text), size=length // 2)]
    return np.concatenate([chunk, chunk])
