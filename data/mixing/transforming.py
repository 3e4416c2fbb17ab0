"""How do chosen documents become items, with or without a transform in between?"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from ..corpus.store import Documents, PartWriter, Row
from ..counts import Counts
from ..encoding.encoder import Encoder
from ..errors import DataError
from ..packing.tables import Items
from ..spec import Selection
from .candidates import Candidates
from .mixture import Drawn, hashed
from .transform import Given, Inserted, Piece, Transform


def transformed(
    name: str,
    source: Selection,
    offer: Candidates,
    drawn: Drawn,
    documents: Documents,
    encoder: Encoder,
    writer: PartWriter,
    *,
    seed: int,
) -> tuple[Items, Counts]:
    """Give a source's items, no more tokens than were drawn; what a transform left out, and what insertions
    pushed out, is counted."""
    index = drawn.index
    items = replace(Items.whole(offer.row[index], drawn.taken), start=offer.start[index])
    if source.transform is None:
        return items, Counts()
    kind = source.transform.made
    table = Table(name, len(documents), writer)
    identities = hashed(offer.key[index], seed)
    for group in groups(drawn.part, kind.documents):
        # The first document names the group, so that the draw is the same wherever its documents lie.
        rng = np.random.default_rng([seed, int(drawn.copy[group[0]]), int(identities[group[0]])])
        given = [_given(documents, items, int(at)) for at in group]
        for pieces in kind(given, rng, lambda text: encoder.encode([text])[0]):
            table.add(kind, pieces, given, items, group)
    written = table.items()
    kept = written.first(drawn.tokens)
    gone = len(np.unique(written.item)) - len(np.unique(kept.item))
    over = int(written.length.sum() - kept.length.sum())
    dropped = Counts(transform={"documents": 0, "tokens": drawn.tokens - table.cut})
    dropped.add("pushed_out", documents=gone, tokens=over)
    return kept, dropped


def groups(part: np.ndarray, size: int) -> Iterator[np.ndarray]:
    """Give places `size` at a time, in order, the last of each part fewer; no group spans two parts."""
    bounds = np.flatnonzero(np.diff(part, prepend=-1, append=-1))
    for first, stop in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True):
        for at in range(first, stop, size):
            yield np.arange(at, min(at + size, stop))


class Table:
    """Spans of the items made so far, eight bytes a number; inserted tokens are written as they come."""

    def __init__(self, name: str, corpus: int, writer: PartWriter) -> None:
        self._name, self._corpus, self._writer = name, corpus, writer
        self._columns = [array("q") for _ in range(5)]
        self._items = 0
        self.cut = 0
        """Tokens of spans of given documents."""

    def add(
        self, kind: Transform, pieces: list[Piece], given: list[Given], items: Items, group: np.ndarray
    ) -> None:
        """Append a new document, its spans counted in the given ones; a DataError names a span outside."""
        before = len(self._columns[0])
        for piece in pieces:
            if isinstance(piece, Inserted):
                if not len(piece.tokens):
                    continue
                row = self._corpus + self._writer.documents
                identity = f"{self._name}/inserted/{self._writer.documents}"
                self._writer.add(Row(tokens=piece.tokens, source=self._name, id=identity))
                self._append(row, 0, len(piece.tokens), piece.trained)
                continue
            whole = given[piece.document].length if 0 <= piece.document < len(given) else 0
            if not (piece.start >= 0 and 0 < piece.length <= whole - piece.start):
                raise DataError(
                    f"data.sources.{self._name}.transform: {kind.name} must give spans of its documents, "
                    f"got {piece} of {len(given)} documents, {whole} tokens; correct the transform"
                )
            self.cut += piece.length
            at = group[piece.document]
            self._append(int(items.row[at]), int(items.start[at]) + piece.start, piece.length, True)
        self._items += len(self._columns[0]) > before

    def items(self) -> Items:
        item, row, start, length, is_trained = (np.array(column, np.int64) for column in self._columns)
        return Items(item=item, row=row, start=start, length=length, trained=is_trained.astype(bool))

    def _append(self, row: int, start: int, length: int, trained: bool) -> None:
        values = (self._items, row, start, length, trained)
        for column, value in zip(self._columns, values, strict=True):
            column.append(value)


def _given(documents: Documents, items: Items, at: int) -> Given:
    row, first, length = int(items.row[at]), int(items.start[at]), int(items.length[at])

    def read(start: int, stop: int) -> np.ndarray:
        return documents.tokens(row, first + start, first + min(stop, length))

    return Given(length=length, read=read)
