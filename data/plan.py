"""What are the tokens, positions, labels and groups of sample number i?

The realised mixture as two small memory-mapped tables over a token store, addressed by integer: opening a
plan reads nothing of it, and a rank reads only the span of tokens it needs.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from .corpus.manifest import read_manifest
from .corpus.parts import Part
from .corpus.store import Document, Documents
from .errors import DataError

IGNORED = -100
SEGMENTS, PACKS = "segments.npy", "packs.npy"
SEGMENT = np.dtype(
    [
        ("document", "<i8"),
        ("start", "<i8"),
        ("length", "<i8"),
        ("offset", "<i8"),
        ("position", "<i8"),
        ("group", "<i4"),
    ]
)
"""Row of the store, first token of it, tokens, place in the pack, position of its first token, number of its
group."""
PACK = np.dtype([("first", "<i8"), ("segments", "<i4"), ("filled", "<i8"), ("trained", "<i8")])
"""First row of the segment table, rows, tokens without padding, labels that count."""


class Segment(NamedTuple):
    """A span of one document in a pack; `row` counts through the corpus and then the plan's own made
    documents."""

    row: int
    start: int
    length: int


@dataclass(frozen=True, kw_only=True)
class Window:
    """A span of a pack: int64 arrays of one length; labels are the next token of the pack, -100 where
    masked."""

    tokens: np.ndarray
    positions: np.ndarray
    labels: np.ndarray


@dataclass(frozen=True, kw_only=True)
class Pack(Window):
    """A whole training sequence of N tokens."""

    segments: list[Segment]
    groups: list[tuple[int, int]]
    """Attention scopes as (start, stop), covering [0, N); padding is the last one."""
    loss_mask: np.ndarray
    """bool [N]: the label counts."""
    frequency_set: str | None = None
    """Which of a scheme's frequency vectors the pack uses; None is its only one."""


class Plan:
    """Packs of one length by number; the same at every rank, for any split of ranks."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.manifest: dict[str, Any] = read_manifest(folder, "plan")
        corpus = folder.parent.parent / "corpus"
        found = read_manifest(corpus, "corpus")["fingerprint"]
        if found != self.corpus_fingerprint:
            raise DataError(
                f"{folder}: must stand on corpus {self.corpus_fingerprint[:12]}, got {found[:12]}; "
                "delete the plan and prepare it again"
            )
        self._corpus = Documents(corpus, "train")
        self._made = Part(folder / "made.arrow")
        self._segments = np.load(folder / SEGMENTS, mmap_mode="r")
        self._packs = np.load(folder / PACKS, mmap_mode="r")

    @property
    def length(self) -> int:
        """Tokens of a pack, padding included."""
        return self.manifest["length"]

    @property
    def fingerprint(self) -> str:
        """Identify every token, position, label and group of the plan."""
        return self.manifest["fingerprint"]

    @property
    def corpus_fingerprint(self) -> str:
        return self.manifest["corpus_fingerprint"]

    def __len__(self) -> int:
        return len(self._packs)

    def __getitem__(self, index: int) -> Pack:
        window = self.read(index, 0, self.length)
        rows = self._rows(index)
        return Pack(
            tokens=window.tokens,
            positions=window.positions,
            labels=window.labels,
            segments=[Segment(*row) for row in rows[["document", "start", "length"]].tolist()],
            groups=self.groups(index),
            loss_mask=window.labels != IGNORED,
        )

    def read(self, index: int, start: int, stop: int) -> Window:
        """Give tokens [start, stop) of a pack, touching no other bytes of the store than theirs and the next
        token's."""
        if not 0 <= start <= stop <= self.length:
            raise IndexError(f"span [{start}, {stop}) of a pack of {self.length}")
        reach = min(stop + 1, self.length)
        tokens = np.full(reach - start, self.manifest["separator"], np.int64)
        positions = np.zeros(reach - start, np.int64)
        counts = np.zeros(stop - start, bool)
        rows = self._rows(index)
        for row in rows[(rows["offset"] < reach) & (rows["offset"] + rows["length"] > start)]:
            first, last = max(row["offset"], start), min(row["offset"] + row["length"], reach)
            inside = np.arange(first, last) - row["offset"]
            tokens[first - start : last - start] = self._tokens(row, inside[0], inside[-1] + 1)
            positions[first - start : last - start] = row["position"] + inside
        for first, last in self._filled_groups(rows):
            counts[max(first - start, 0) : max(last - 1 - start, 0)] = True
        padding = max(int(self._packs[index]["filled"]), start)
        positions[padding - start :] = np.arange(padding, reach) - self._packs[index]["filled"]
        labels = np.where(counts, 0, IGNORED)
        counted = np.flatnonzero(counts)
        labels[counted] = tokens[counted + 1]
        return Window(tokens=tokens[: stop - start], positions=positions[: stop - start], labels=labels)

    def groups(self, index: int) -> list[tuple[int, int]]:
        """Give the attention scopes of a pack, covering it; a last one holds the padding if there is any."""
        scopes = self._filled_groups(self._rows(index))
        filled = scopes[-1][1]
        return [*scopes, (filled, self.length)] if filled < self.length else scopes

    def trained_tokens(self, index: int) -> int:
        """Count the labels that are not masked, without reading tokens."""
        return int(self._packs[index]["trained"])

    def document(self, row: int) -> Document:
        """Give the document a segment's `row` names."""
        corpus = len(self._corpus)
        if row < corpus:
            return self._corpus[row]
        made = row - corpus
        source, name = (self._made.table.column(key)[made].as_py() for key in ("source", "id"))
        return Document(tokens=self._made.tokens(made), source=source, id=name)

    def group_lengths(self) -> np.ndarray:
        """Give int64 tokens of every group of the plan, without padding."""
        if not len(self._segments):
            return np.zeros(0, np.int64)
        opens = np.ones(len(self._segments), bool)
        opens[1:] = self._segments["group"][1:] != self._segments["group"][:-1]
        opens[self._packs["first"]] = True
        return np.add.reduceat(self._segments["length"], np.flatnonzero(opens))

    def _rows(self, index: int) -> np.ndarray:
        if not 0 <= index < len(self):
            raise IndexError(index)
        first = self._packs[index]["first"]
        return self._segments[first : first + self._packs[index]["segments"]]

    def _tokens(self, row: np.void, start: int, stop: int) -> np.ndarray:
        """Give tokens [start, stop) of a segment."""
        made = row["document"] - len(self._corpus)
        first, last = row["start"] + start, row["start"] + stop
        return (
            self._made.tokens(made, first, last)
            if made >= 0
            else self._corpus.tokens(row["document"], first, last)
        )

    @staticmethod
    def _filled_groups(rows: np.ndarray) -> list[tuple[int, int]]:
        firsts = np.flatnonzero(np.diff(rows["group"], prepend=-1))
        starts = rows["offset"][firsts].tolist()
        end = int(rows["offset"][-1] + rows["length"][-1])
        return list(zip(starts, [*starts[1:], end], strict=True))


def open_plan(folder: str | Path) -> Plan:
    """Open one plan's folder, or a store that holds a single plan."""
    folder = Path(folder)
    if (folder / "plans").is_dir():
        plans = sorted(path for path in (folder / "plans").iterdir() if not path.name.startswith("."))
        if len(plans) != 1:
            names = ", ".join(path.name for path in plans) or "none"
            raise DataError(f"{folder}: must hold one plan, got {names}; give the folder of one")
        folder = plans[0]
    return Plan(folder)
