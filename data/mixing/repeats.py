"""Which rows make a small model learn to copy? A chunk of shuffled real tokens, repeated to the row's end.

Nothing but an earlier occurrence tells the later ones, so induction heads form early (Olsson et al. 2022,
arXiv 2209.11895). A period that is the same in every row can be copied by distance alone, and then is: such a
model copies at exactly that distance and nowhere else. Drawing the period forces copying by content.
"""

from __future__ import annotations

import numpy as np


def repeat_row(text: np.ndarray, rng: np.random.Generator, length: int, *, shortest: float) -> np.ndarray:
    """Give uint32 [length]: a chunk drawn from `text` without its order, over and over.

    The chunk's length is drawn evenly between `shortest * length` and half of it.
    """
    half = length // 2
    period = int(rng.integers(min(max(1, round(shortest * length)), half), half + 1))
    chunk = text[rng.integers(len(text), size=period)]
    return np.tile(chunk, -(-length // period))[:length]
