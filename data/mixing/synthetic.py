"""Which documents are written, not found? Each is a pure function of seed, source and number.

Facts: statements `# The value of <key> is <digits>.` are planted between lines of real text and asked at the
end in the same words, so that a document teaches, and a needle tests, that a value stated once is found again
by its key. Keys and values are each split by a hash: training sees one half, evaluation the other, so a right
answer was never learnt. Repeats: rows of shuffled real tokens that teach a small model to copy.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from ..corpus.store import Documents
from ..encoding.encoder import Encoder
from ..errors import DataError
from ..spec import DataSpec, FactsSource, RepeatsSource
from .mixture import draw

CONSONANTS, VOWELS = "bcdfghjklmnpqrstvwxyz", "aeiou"
VALUE_DIGITS = 5
SPARE = 0.8
"""Most of a document that statements and questions may fill."""
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


def repeat_row(text: np.ndarray, rng: np.random.Generator, length: int, *, shortest: float) -> np.ndarray:
    """Give uint32 [length]: a chunk drawn from `text` without its order, over and over.

    Nothing but an earlier occurrence tells the later ones, so induction heads form early (Olsson et al. 2022,
    arXiv 2209.11895). A period that is the same in every row can be copied by distance alone, and then is:
    drawing it, evenly between `shortest * length` and half of that, forces copying by content.
    """
    half = length // 2
    period = int(rng.integers(min(max(1, round(shortest * length)), half), half + 1))
    chunk = text[rng.integers(len(text), size=period)]
    return np.tile(chunk, -(-length // period))[:length]


class Needle(NamedTuple):
    """`statement` is a line of its own; `question` followed by `answer` is its beginning, without the full
    stop."""

    statement: str
    question: str
    answer: str
    key: str
    value: str


def half(word: str) -> Literal["train", "heldout"]:
    """Tell on which side of the split a key or a value lies."""
    return "heldout" if hashlib.sha256(f"fact {word}".encode()).digest()[0] & 1 else "train"


@dataclass(frozen=True, kw_only=True)
class Facts:
    """Draw needles whose key and value both lie in one half."""

    split: Literal["train", "heldout"]

    def needle(self, rng: np.random.Generator) -> Needle:
        key, value = self._draw(rng, _key), self._draw(rng, _value)
        return state(key, value)

    def needles(self, rng: np.random.Generator, count: int) -> list[Needle]:
        """Draw needles with distinct keys."""
        drawn: dict[str, Needle] = {}
        while len(drawn) < count:
            needle = self.needle(rng)
            drawn.setdefault(needle.key, needle)
        return list(drawn.values())

    def _draw(self, rng: np.random.Generator, word_of: Callable[[np.random.Generator], str]) -> str:
        while half(word := word_of(rng)) != self.split:
            pass
        return word


def state(key: str, value: str) -> Needle:
    """Put a key and a value into the frame that training and evaluation share."""
    question = f"# The value of {key} is"
    answer = f" {value}"
    return Needle(f"{question}{answer}.\n", question, answer, key, value)


def plant(haystack: np.ndarray, at: Sequence[int], pieces: Sequence[np.ndarray]) -> np.ndarray:
    """Insert pieces of tokens before the given places of a haystack, whatever their order."""
    order = np.argsort(at, kind="stable")
    parts, done = [], 0
    for index in order:
        parts += [haystack[done : at[index]], pieces[index]]
        done = at[index]
    return np.concatenate([*parts, haystack[done:]])


class FactWriter:
    """Writes whole documents of an exact number of tokens over a stream of real ones."""

    def __init__(self, encoder: Encoder, text: np.ndarray, *, most: int, where: str) -> None:
        """`text` is uint32 training tokens of the haystack's source, without what opens
        and closes them."""
        self._encoder, self._text, self._most = encoder, text, most
        self._ends = len(encoder.opens) + len(encoder.closes)
        starts, ends = encoder.newlines()
        self._leads = starts[text]
        self._opens = self._leads.copy()
        self._opens[1:] |= ends[text[:-1]]
        self._lines = np.flatnonzero(self._opens)
        if not len(self._lines):
            raise DataError(
                f"{where}.text: must have lines to plant facts between, got none; name another source"
            )
        (sample,) = encoder.encode(["\n" + state("zuzu", "99999").statement])
        self._cost = 2 * (len(sample) + 2)

    @property
    def shortest(self) -> int:
        """Give the least tokens of a document with one fact."""
        return int(self._cost / SPARE) + 1 + self._ends

    def write(self, draws: Sequence[tuple[np.random.Generator, int]]) -> list[np.ndarray]:
        """Give a uint32 document for each (generator, tokens): haystack with facts, then their questions,
        between what opens and what closes a document."""
        drawn = [self._needles(rng, length) for rng, length in draws]
        texts = [
            _texts(needles, rng.permutation(len(needles)))
            for needles, (rng, _) in zip(drawn, draws, strict=True)
        ]
        tokens = iter(self._encoder.encode([text for document in texts for text in document]))
        encoded = [[next(tokens) for _ in document] for document in texts]
        return [
            self._assemble(rng, length, pieces) for pieces, (rng, length) in zip(encoded, draws, strict=True)
        ]

    def _needles(self, rng: np.random.Generator, length: int) -> list[Needle]:
        count = int(rng.integers(1, self._most + 1))
        return Facts(split="train").needles(rng, min(count, int(SPARE * (length - self._ends) / self._cost)))

    def _assemble(self, rng: np.random.Generator, length: int, pieces: list[np.ndarray]) -> np.ndarray:
        """Plant statements at even depths of a haystack that is cut so that everything fits to the token."""
        count = len(pieces) // 2
        after, before, questions = pieces[:count], pieces[count:-1], pieces[-1]
        first = self._lines[rng.integers(len(self._lines))]
        at = np.arange(first, first + length) % len(self._text)
        spare = length - self._ends - len(questions)
        room = spare - sum(max(map(len, forms)) for forms in zip(after, before, strict=True))
        assert room >= 0, (length, room)
        lines = np.flatnonzero(self._opens[at[: room + 1]])  # never empty: the haystack starts with a line
        places = [int(lines[np.abs(lines - place).argmin()]) for place in rng.random(count) * room]
        forms = [before[i] if self._leads[at[place]] else after[i] for i, place in enumerate(places)]
        keep = spare - sum(map(len, forms))
        body = plant(self._text[at[:keep]], places, forms)
        return np.concatenate([self._encoder.opens, body, questions, self._encoder.closes])


def _texts(needles: list[Needle], asked: np.ndarray) -> list[str]:
    """Give each statement as it stands after a newline, each as it stands before one, and all the questions
    answered."""
    lines = [needle.statement for needle in needles]
    return [
        *lines,
        *("\n" + line.removesuffix("\n") for line in lines),
        "\n" + "".join(lines[i] for i in asked),
    ]


def _key(rng: np.random.Generator) -> str:
    return "".join(letters[rng.integers(len(letters))] for letters in (CONSONANTS, VOWELS) * 2)


def _value(rng: np.random.Generator) -> str:
    return str(rng.integers(10 ** (VALUE_DIGITS - 1), 10**VALUE_DIGITS))
