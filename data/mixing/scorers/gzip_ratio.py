"""gzip_ratio: how far does text compress? Compressed bytes over bytes, in windows of one size.

OLMo 3 leaves out the most and the least compressible fifth of long documents: lists and boilerplate at one
end, noise at the other. A longer document compresses better only because more of it has been seen, until
DEFLATE's own window of 32 KiB is full; in windows of one size, each compressed by itself, the ratio says
nothing of the length. Only documents shorter than one window are still scored as they are.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from pydantic import Field

from ..scorer import Scorer, scorer

BLOCK = 65_536
"""Tokens decoded at a time."""


@scorer("gzip_ratio")
@dataclass(frozen=True, kw_only=True)
class GzipRatio(Scorer):
    """Compressed bytes / bytes of the UTF-8 text; below 1, near 0 for what repeats itself."""

    level: Annotated[int, Field(ge=1, le=9)] = 6
    """Of zlib's effort."""
    window: Annotated[int, Field(ge=256)] = 8192
    """Bytes compressed by themselves."""

    def __call__(self, tokens: np.ndarray, text: Callable[[np.ndarray], str]) -> float:
        blocks = (text(tokens[at : at + BLOCK]).encode() for at in range(0, len(tokens), BLOCK))
        sizes = [
            (len(zlib.compress(window, self.level)), len(window)) for window in _windows(blocks, self.window)
        ]
        compressed, raw = map(sum, zip((0, 0), *sizes, strict=True))
        return compressed / raw if raw else 1.0


def _windows(blocks: Iterable[bytes], size: int) -> Iterator[bytes]:
    """Give whole windows in order, the last one from the end back; a text shorter than one is one."""
    before, held = b"", b""
    for block in blocks:
        held += block
        while len(held) >= size:
            before, held = held[:size], held[size:]
            yield before
    if held:
        yield (before + held)[-size:]
