"""How does a document teach, and a needle test, that a value stated once is found again by its key?

Statements `# The value of <key> is <digits>.` are planted between lines of real text and asked at the end in
the same words. Keys and values are each split by a hash: training sees one half, evaluation the other, so a
right answer was never learnt.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from ..encoding.encoder import Encoder
from ..errors import DataError

CONSONANTS, VOWELS = "bcdfghjklmnpqrstvwxyz", "aeiou"
VALUE_DIGITS = 5
SPARE = 0.8
"""Most of a document that statements and questions may fill."""


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
        needles = [self._needles(rng, length) for rng, length in draws]
        texts = [_texts(own, rng.permutation(len(own))) for own, (rng, _) in zip(needles, draws, strict=True)]
        tokens = iter(self._encoder.encode([text for own in texts for text in own]))
        pieces = [[next(tokens) for _ in own] for own in texts]
        return [self._assemble(rng, length, own) for own, (rng, length) in zip(pieces, draws, strict=True)]

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
