"""What may be made of the chosen documents before they are packed?

A transform is a frozen dataclass of its own knobs in a file of its own under `transforms/`;
`@transform("name")` is all the registration there is. It takes a few documents at a time and gives new ones,
each a run of pieces: spans of the old, and tokens of its own. What it gives depends on the documents and the
generator alone, so any worker, in any order, gives the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ..registry import PluginSection, Registry

Encode = Callable[[str], np.ndarray]
"""Text to uint32 ids, without what stands before and after a document."""


@dataclass(frozen=True, kw_only=True)
class Given:
    """A chosen document."""

    length: int
    """Tokens, what stands before and after its text included."""
    read: Callable[[int, int], np.ndarray]
    """uint32 tokens [start, stop); nothing is read before."""


@dataclass(frozen=True)
class Cut:
    """Tokens [start, start + length) of the given document of that number."""

    document: int
    start: int
    length: int


@dataclass(frozen=True)
class Inserted:
    """Tokens that stand in no document, uint32."""

    tokens: np.ndarray
    trained: bool = False
    """They count as labels."""


Piece = Cut | Inserted


@dataclass(frozen=True, kw_only=True)
class Transform:
    """Make new documents of `documents` given ones; subclasses hold their knobs as fields.

    A new document is one attention group where the source's groups are documents. Two that are not built yet:

    - Untie-the-Knots (arXiv 2409.04774), `documents` as many as fill a sequence: cuts each into one to three
      chunks, shuffles all of them but keeps each document's own order, and gives one document whose chunks
      are `Cut`s with `Inserted(encode(...), trained=False)` knots, chunk ids and the list of ids between.
    - NExtLong (arXiv 2501.12766), `documents` some thousands, its corpus of hard negatives: reads each,
      splits it at newlines, looks up each chunk's nearest chunks of other documents, and gives one document
      per meta-document: chunk, its negatives, next chunk, all `Cut`s. `lossless` is False: what no
      meta-document takes is left out.
    """

    name: ClassVar[str]
    lossless: ClassVar[bool] = True
    """Every given token stands exactly once in what is made, each document's in their order."""

    documents: int = 1
    """Documents taken at a time; the last ones may be fewer."""

    def __call__(
        self, documents: Sequence[Given], rng: np.random.Generator, encode: Encode
    ) -> Iterator[list[Piece]]:
        """Give the new documents. Inserted tokens count into the source's budget: what they push out of it
        is counted as left out."""
        raise NotImplementedError


transform: Registry[Transform] = Registry("transform")


class TransformSection(PluginSection[Transform]):
    """What is made of the chosen documents."""

    registry = transform
