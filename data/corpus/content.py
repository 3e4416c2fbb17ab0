"""What does a document's text decide, whatever its tokens: on which side of the split it lies, and what it
shares with others?

Layout alone makes no new document: outer space of lines and empty lines do not count. Text comes in blocks,
so that a long document is never held.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

LONG_LINE = 20
"""Characters from which a line tells documents apart."""


@dataclass(frozen=True, kw_only=True)
class ContentFacts:
    """What was found when the last block had gone by."""

    draw: float
    """A number in [0, 1) by the sha256 of the normalised text."""
    empty: bool
    lines: np.ndarray | None
    """uint64 hashes of the long lines, where they were asked for."""

    def heldout(self, share: float) -> bool:
        """Say whether the document is one of the held-out share."""
        return self.draw < share


class Content:
    """Take in a document block by block, then give its facts."""

    def __init__(self, *, keep_lines: bool) -> None:
        self._hash = hashlib.sha256()
        self._lines: set[bytes] | None = set() if keep_lines else None
        self._open = ""
        self._empty = True

    def feed(self, text: str) -> None:
        """Take in the next block."""
        whole, newline, self._open = (self._open + text).rpartition("\n")
        if newline:
            self._take(whole)

    def feed_tokens(self, tokens: np.ndarray) -> None:
        """Take in a document that was never text."""
        self._hash.update(np.ascontiguousarray(tokens, dtype="<u4").data)
        self._empty = self._empty and not len(tokens)

    def facts(self) -> ContentFacts:
        """Say what the document is; nothing may be fed after."""
        self._take(self._open)
        lines = None
        if self._lines is not None:
            lines = np.frombuffer(b"".join(sorted(self._lines)), "<u8").astype(np.uint64)
        draw = int.from_bytes(self._hash.digest()[:8], "big") / 2**64
        return ContentFacts(draw=draw, empty=self._empty, lines=lines)

    def _take(self, text: str) -> None:
        """Hash whole lines, joined as if the document had no other."""
        lines = [line for line in map(str.strip, text.split("\n")) if line]
        if not lines:
            return
        self._hash.update(("\n".join(lines) if self._empty else "\n" + "\n".join(lines)).encode())
        self._empty = False
        if self._lines is not None:
            self._lines |= {_hash(line) for line in lines if len(line) >= LONG_LINE}


def key_of(id: str) -> int:
    """Give the uint64 hash by which a document is selected."""
    return int.from_bytes(hashlib.blake2b(id.encode(), digest_size=8).digest(), "big")


def _hash(line: str) -> bytes:
    return hashlib.blake2b(line.encode(), digest_size=8).digest()
