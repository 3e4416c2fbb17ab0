"""What are the tokens, positions, labels and groups of sample number i?

The realised mixture as two small memory-mapped tables over a token store, addressed by integer: opening a
plan reads nothing of it, and a rank reads only the span of tokens it needs. A plain Hugging Face Trainer, or
any torch loop, takes the same packs as a dataset.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from .corpus.manifest import differences, read_manifest
from .corpus.store import Document, Documents, Part, name_in, rows_in
from .errors import DataError

IGNORED = -100
SEGMENTS, PACKS, MADE = "segments.npy", "packs.npy", "made.arrow"


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
        stored = read_manifest(corpus, "corpus")
        if stored["fingerprint"] != self.corpus_fingerprint:
            raise DataError(
                f"{folder}: must stand on corpus {self.corpus_fingerprint[:12]}, got "
                f"{stored['fingerprint'][:12]}{differing(self.manifest['corpus'], corpus_facts(stored))}; "
                "delete the plan and prepare it again"
            )
        self._corpus = Documents(corpus, "train")
        self._made = Part(folder / MADE)
        self.segments: np.ndarray = np.load(folder / SEGMENTS, mmap_mode="r")
        self.packs: np.ndarray = np.load(folder / PACKS, mmap_mode="r")

    @property
    def length(self) -> int:
        """Tokens of a pack, padding included."""
        return self.manifest["length"]

    @property
    def reach(self) -> int:
        """One more than the largest position there may be: the target length where positions skip ahead."""
        return self.manifest["reach"]

    @property
    def about(self) -> dict[str, Any]:
        """Say what the plan was made of, field by field, to tell what differs between two."""
        return {key: self.manifest[key] for key in ("length", "reach", "spec", "corpus")}

    @property
    def fingerprint(self) -> str:
        """Identify every token, position, label and group of the plan."""
        return self.manifest["fingerprint"]

    @property
    def corpus_fingerprint(self) -> str:
        return self.manifest["corpus_fingerprint"]

    def __len__(self) -> int:
        return len(self.packs)

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
        end = min(stop + 1, self.length)
        tokens = np.full(end - start, self.manifest["padding"], np.int64)
        positions = np.arange(start, end) - int(self.packs[index]["filled"])  # the padding's
        targets = np.zeros(end - start, bool)
        rows = self._rows(index)
        for row in rows[(rows["offset"] < end) & (rows["offset"] + rows["length"] > start)]:
            first, last = max(row["offset"], start), min(row["offset"] + row["length"], end)
            span = slice(first - start, last - start)
            tokens[span] = self._tokens(row, first - row["offset"], last - row["offset"])
            positions[span] = np.arange(first, last) + (row["position"] - row["offset"])
            targets[span] = row["trained"]
        heads = rows["offset"][_heads(rows)]  # nothing in its group predicts a group's first token
        targets[heads[(heads >= start) & (heads < end)] - start] = False
        labels = np.full(stop - start, IGNORED, np.int64)
        labels[: end - start - 1] = np.where(targets, tokens, IGNORED)[1:]
        return Window(tokens=tokens[: stop - start], positions=positions[: stop - start], labels=labels)

    def groups(self, index: int) -> list[tuple[int, int]]:
        """Give the attention scopes of a pack, covering it; a last one holds the padding if there is any."""
        rows = self._rows(index)
        starts = rows["offset"][_heads(rows)].tolist()
        filled = int(self.packs[index]["filled"])
        edges = [*starts, filled, *([self.length] if filled < self.length else [])]
        return list(pairwise(edges))

    def extents(self, index: int) -> list[int]:
        """Give the distance from the first to the last position of each of `groups`, and one: its tokens, and
        what they skip."""
        rows = self._rows(index)
        heads = np.flatnonzero(_heads(rows))
        tails = np.append(heads[1:], len(rows)) - 1
        extents = rows["position"][tails] + rows["length"][tails] - rows["position"][heads]
        padding = self.length - int(self.packs[index]["filled"])
        return [*extents.tolist(), *([padding] if padding else [])]

    def trained_tokens(self, index: int) -> int:
        """Count the labels that are not masked, without reading tokens."""
        return int(self.packs[index]["trained"])

    def first(self, packs: int) -> dict[str, int]:
        """Count the `tokens`, without padding, and the `trained_tokens` of so many packs from the first."""
        rows = self.packs[:packs]
        return {"tokens": int(rows["filled"].sum()), "trained_tokens": int(rows["trained"].sum())}

    def cost(self, index: int) -> int:
        """Give the sum of the squared lengths of a pack's groups: what its attention costs."""
        return int(self.packs[index]["cost"])

    def document(self, row: int) -> Document:
        """Give the document a segment's `row` names."""
        made = row - len(self._corpus)
        source, id = self.name(row)
        tokens = self._made.tokens(made) if made >= 0 else self._corpus.tokens(row)
        return Document(tokens=tokens, source=source, id=id)

    def name(self, row: int) -> tuple[str, str]:
        """Give the source and the id of the document a segment's `row` names, reading no tokens."""
        made = row - len(self._corpus)
        return self._corpus.name(row) if made < 0 else name_in(self._made.table, made)

    def sources(self) -> list[tuple[str, np.ndarray]]:
        """Give the rows of each source that has documents here; reads all names, not the tokens."""
        names = list(self.manifest["spec"]["sources"])
        corpus = [(name, self._corpus.of_source(name)) for name in names]
        made = [(name, rows_in(self._made.table, name) + len(self._corpus)) for name in names]
        return [(name, rows) for name, rows in [*corpus, *made] if len(rows)]

    def document_lengths(self) -> np.ndarray:
        """Give int64 tokens of every document that a segment's row may name, by row."""
        return np.concatenate([self._corpus.lengths(), self._made.lengths()])

    def _rows(self, index: int) -> np.ndarray:
        if not 0 <= index < len(self):
            raise IndexError(index)
        first = self.packs[index]["first"]
        return self.segments[first : first + self.packs[index]["segments"]]

    def _tokens(self, row: np.void, start: int, stop: int) -> np.ndarray:
        """Give tokens [start, stop) of a segment."""
        made = row["document"] - len(self._corpus)
        first, last = row["start"] + start, row["start"] + stop
        return (
            self._made.tokens(made, first, last)
            if made >= 0
            else self._corpus.tokens(row["document"], first, last)
        )


class PackDataset:
    """A map-style dataset of a plan's packs, for torch's DataLoader and transformers' Trainer.

    Models of transformers mask packed documents by `position_ids` where they get no `attention_mask` and keep
    no cache (Trainer's default): attention is cut wherever a position is not the one before and one. With
    flash attention they do so in batches of one pack only. Labels are shifted back, for these models shift
    them.
    """

    def __init__(self, plan: Plan | str | Path) -> None:
        """Take a plan or its folder; a DataError names the sources whose attention scope positions cannot
        tell."""
        self.plan = plan if isinstance(plan, Plan) else open_plan(plan)
        sources = self.plan.manifest["spec"]["sources"]
        wrong = {
            name: f"{source['positions']} with groups: {source['groups']}"
            for name, source in sources.items()
            if source["weight"] != 0 and not _tells_its_groups(source["groups"], source["positions"])
        }
        if wrong:
            raise DataError(
                "\n".join(
                    f"data.sources.{name}.positions: must tell transformers who attends to whom, got {got}; "
                    "leave positions out, or train with `ropewalk extend`"
                    for name, got in wrong.items()
                )
            )

    def __len__(self) -> int:
        return len(self.plan)

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        """Give int64 arrays [length]: `input_ids`, `position_ids` and `labels`."""
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        window = self.plan.read(index % len(self), 0, self.plan.length)
        labels = np.concatenate([[IGNORED], window.labels[:-1]])
        return {"input_ids": window.tokens, "position_ids": window.positions, "labels": labels}


def corpus_facts(manifest: dict[str, Any]) -> dict[str, Any]:
    """Give what a corpus was made of, from its manifest, to tell what differs between two."""
    return {key: manifest[key] for key in ("identity", "inputs")}


def _heads(rows: np.ndarray) -> np.ndarray:
    """Mark the first segment of each group of a pack."""
    return np.diff(rows["group"], prepend=-1) != 0


def differing(kept: dict[str, Any], asked: dict[str, Any]) -> str:
    """Say in which fields two plans or corpora differ, in the middle of an error."""
    fields = differences(kept, asked)
    return f", with a difference in {'; '.join(fields)}" if fields else ""


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


def _tells_its_groups(groups: str, positions: str | None) -> bool:
    """Say whether positions restart exactly where attention does."""
    follows = "reset" if groups == "document" else "continuous"
    return positions in (None, follows) or (groups, positions) == ("pack", "reset")
