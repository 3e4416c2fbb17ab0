"""How are the documents of procedural sources written, each a pure function of seed, source and number?"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator

import numpy as np

from ..corpus.store import Documents
from ..encoding.encoder import Encoder
from ..errors import DataError
from ..spec import DataSpec
from .mixture import draw
from .repeats import repeat_row
from .spec import FactsSource, RepeatsSource
from .synthetic import FactWriter

TEXT_TOKENS = 8_000_000
"""Most real tokens that haystacks and rows are drawn from; they are held in memory."""
BLOCK = 256


def made(
    spec: DataSpec, name: str, documents: Documents, encoder: Encoder, *, budget: int, length: int
) -> Iterator[np.ndarray]:
    """Give a procedural source's documents as they are asked for; a DataError at once where there can be
    none."""
    source, seed = spec.sources[name], spec.seed
    assert isinstance(source, FactsSource | RepeatsSource)
    text = text_of(documents, documents.of_source(source.text), encoder, seed)
    if not len(text):
        raise DataError(
            f"data.sources.{name}.text: must have training documents, got none; check {source.text}"
        )
    if isinstance(source, FactsSource):
        return facts(source, text, encoder, name=name, budget=budget, length=length, seed=seed)
    return repeats(source, text, name=name, budget=budget, length=length, seed=seed)


def text_of(documents: Documents, rows: np.ndarray, encoder: Encoder, seed: int) -> np.ndarray:
    """Give uint32 tokens of a source's training documents in a drawn order, without what stands before and
    after each."""
    lengths = documents.lengths()[rows]
    budget = min(int(lengths.sum()), TEXT_TOKENS)
    parts = [np.zeros(0, np.uint32)]
    for drawn in draw(lengths, documents.keys()[rows], budget, seed):
        for row, length in zip(rows[drawn.index].tolist(), lengths[drawn.index].tolist(), strict=True):
            parts.append(documents.tokens(row, len(encoder.opens), length - len(encoder.closes)))
    return np.concatenate(parts)[:TEXT_TOKENS]


def repeats(
    source: RepeatsSource, text: np.ndarray, *, name: str, budget: int, length: int, seed: int
) -> Iterator[np.ndarray]:
    """Give rows that sum to `budget` tokens, less a single one that is left."""
    for number, tokens in enumerate(_cut(budget, lambda _: length - length % 2)):
        if tokens >= 2:
            yield repeat_row(text, _generator(seed, name, number), tokens, shortest=source.shortest)


def facts(
    source: FactsSource, text: np.ndarray, encoder: Encoder, *, name: str, budget: int, length: int, seed: int
) -> Iterator[np.ndarray]:
    """Give fact documents that sum to `budget` tokens, less a rest too short to hold a fact."""
    where = f"data.sources.{name}"
    writer = FactWriter(encoder, text, most=source.facts, where=where)
    longest = source.length or length
    shortest = source.min_length or longest
    if min(shortest, longest) < writer.shortest:
        raise DataError(
            f"{where}: documents must hold a fact and its question, {writer.shortest} tokens here, "
            f"got {min(shortest, longest)}; raise its length or min_length"
        )

    def tokens_of(number: int) -> int:
        if shortest >= longest:
            return longest
        low, high = np.log([shortest, longest + 1])
        return min(int(np.exp(_generator(seed, f"{name} length", number).uniform(low, high))), longest)

    return _facts(writer, _cut(budget, tokens_of), name, seed)


def _facts(writer: FactWriter, lengths: Iterator[int], name: str, seed: int) -> Iterator[np.ndarray]:
    block: list[tuple[np.random.Generator, int]] = []
    for number, tokens in enumerate(lengths):
        if tokens >= writer.shortest:
            block.append((_generator(seed, name, number), tokens))
        if len(block) == BLOCK:
            yield from writer.write(block)
            block = []
    yield from writer.write(block)


def _cut(budget: int, tokens_of: Callable[[int], int]) -> Iterator[int]:
    """Give lengths that sum to the budget, the last one what is left."""
    number = 0
    while budget > 0:
        tokens = min(tokens_of(number), budget)
        yield tokens
        budget -= tokens
        number += 1


def _generator(seed: int, name: str, number: int) -> np.random.Generator:
    label = int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "big")
    return np.random.default_rng([seed, label, number])
