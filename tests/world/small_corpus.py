"""Which corpus has documents of known lengths, every token of it different, and no file on disk?"""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np

from ropewalk.data import DataSpec, Document
from ropewalk.data.mixing.choose import Chosen, choose
from ropewalk.data.mixing.scorer import Scores


class SmallCorpus:
    """Stand in for `Documents`: token number n of the corpus is n."""

    def __init__(self, lengths: Mapping[str, Sequence[int]], *, ids: Sequence[int] | None = None) -> None:
        """`ids` number the documents, whatever their order here."""
        self._sources = [name for name, own in lengths.items() for _ in own]
        self._lengths = np.array([length for own in lengths.values() for length in own], np.int64)
        self._first = np.cumsum(self._lengths) - self._lengths
        self._ids = [f"d{i}" for i in (range(len(self._lengths)) if ids is None else ids)]

    def __len__(self) -> int:
        return len(self._ids)

    def __getitem__(self, row: int) -> Document:
        return Document(tokens=self.tokens(row), source=self._sources[row], id=self._ids[row])

    def lengths(self) -> np.ndarray:
        return self._lengths

    def ids(self) -> list[str]:
        return self._ids

    def keys(self) -> np.ndarray:
        return keys_of(self._ids)

    def of_source(self, name: str) -> np.ndarray:
        return np.flatnonzero([source == name for source in self._sources])

    def tokens(self, row: int, start: int = 0, stop: int | None = None) -> np.ndarray:
        stop = int(self._lengths[row]) if stop is None else min(stop, int(self._lengths[row]))
        return (self._first[row] + np.arange(start, stop)).astype(np.uint32)


def keys_of(ids: Sequence[str]) -> np.ndarray:
    digests = (hashlib.blake2b(name.encode(), digest_size=8).digest() for name in ids)
    return np.frombuffer(b"".join(digests), "<u8")


class SmallEncoder:
    """Stand in for `Encoder`: one token closes a document, text is its bytes."""

    opens = np.zeros(0, np.uint32)
    closes = np.array([0], np.uint32)

    def encode(self, texts: Sequence[str]) -> list[np.ndarray]:
        return [np.frombuffer(text.encode(), np.uint8).astype(np.uint32) for text in texts]

    def decode(self, tokens: np.ndarray) -> str:
        return bytes(tokens.astype(np.uint8).tolist()).decode("latin-1")


class SmallWriter:
    """Stand in for the file of made documents."""

    def __init__(self) -> None:
        self.rows: list[np.ndarray] = []

    @property
    def documents(self) -> int:
        return len(self.rows)

    def add(self, row: Any) -> None:
        self.rows.append(row.tokens)


def data_spec(sources: Mapping[str, Mapping[str, Any]], **fields: Any) -> DataSpec:
    """Build a data section; a source without a kind is files."""
    whole = {
        name: ({} if "kind" in own else {"kind": "files", "paths": ["x"]}) | dict(own)
        for name, own in sources.items()
    }
    return DataSpec.model_validate({"sources": whole, **fields})


def chosen_of(
    spec: DataSpec,
    corpus: SmallCorpus,
    *,
    length: int = 1000,
    writer: SmallWriter | None = None,
    folder: Path = Path("/nowhere"),
) -> dict[str, Chosen]:
    """Choose from a small corpus."""
    documents, encoder, made = (cast(Any, part) for part in (corpus, SmallEncoder(), writer or SmallWriter()))
    scores = Scores(folder=folder, corpus="c", documents=documents, encoder=encoder)
    return choose(spec, scores, made, length=length)
