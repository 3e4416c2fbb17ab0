"""Interleave: the chunks of a few documents in turn (CIP of LongSkywork, arXiv 2406.00605).

D1 D2 D3 cut in two become D1' D2' D3' D1" D2" D3": what continues a chunk stands two documents away, so the
window is needed to go on. The paper found two chunks a document, cut at random, best.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from pydantic import Field

from ..transform import Cut, Encode, Given, Piece, Transform, transform


@transform("interleave")
@dataclass(frozen=True, kw_only=True)
class Interleave(Transform):
    """Give one document of `documents`, each cut into `chunks` at random places."""

    documents: Annotated[int, Field(ge=2)] = 3
    chunks: Annotated[int, Field(ge=2)] = 2
    """Parts of each document."""

    def __call__(
        self, documents: Sequence[Given], rng: np.random.Generator, encode: Encode
    ) -> Iterator[list[Piece]]:
        cuts = [self._places(document.length, rng) for document in documents]
        yield [
            Cut(number, places[rank], places[rank + 1] - places[rank])
            for rank in range(self.chunks)
            for number, places in enumerate(cuts)
            if rank + 1 < len(places)
        ]

    def _places(self, length: int, rng: np.random.Generator) -> list[int]:
        """Draw where a document's chunks begin, and its end; one shorter than its chunks has fewer."""
        count = min(self.chunks, length) - 1
        inner = rng.choice(length - 1, size=count, replace=False) + 1 if count else np.zeros(0, np.int64)
        return [0, *np.sort(inner).tolist(), length]
