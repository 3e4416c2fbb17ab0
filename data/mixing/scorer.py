"""How good is a document for training, as one number?

A scorer is a frozen dataclass of its own knobs in a file of its own under `scorers/`; `@scorer("name")` is
all the registration there is. Its knobs say what it looks at: windows, stride, how they are put together.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ..registry import Registry

Loss = Callable[[np.ndarray], np.ndarray]
"""Tokens of one window to each token's loss given those before it there, float [n]; the first is 0."""


@dataclass(frozen=True, kw_only=True)
class Scorer:
    """Score documents; subclasses hold their knobs as fields.

    With `loss` of any model: LongFilter (arXiv 2510.25804) compares `loss` of a whole window with that of its
    short windows; Prospector (arXiv 2405.17915) calls it on pairs of chunks, concatenated, and on each alone.
    """

    name: ClassVar[str]
    needs_loss: ClassVar[bool] = False
    """It cannot do without a model's losses."""

    def __call__(
        self, tokens: np.ndarray, text: Callable[[np.ndarray], str], loss: Loss | None = None
    ) -> float:
        """Give the finite score of a document of uint32 tokens, without what stands before and after it.

        `text` decodes tokens, a few or all; a long document need never be one string.
        """
        raise NotImplementedError


scorer: Registry[Scorer] = Registry("scorer")
