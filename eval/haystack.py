"""Which held-out documents is everything measured on, and how is a needle hidden in them?

    [front] haystack ... statement ... haystack, newline, question answer

A prompt has exactly the wanted number of tokens. The haystack keeps the very tokens its documents are stored
as: a line goes in after a token that ends a line (as "line\\n") or before one that begins with a newline (as
"\\nline"), as in the training documents. Nothing is cut silently: if statement, question and answer leave no
room, or the documents run out, that is an error.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..data import Document, Needle, plant
from .errors import EvalError

if TYPE_CHECKING:  # heavy, and only handed on here
    from transformers import PreTrainedTokenizerBase

Tokens = NDArray[np.int64]


def choose_documents(
    documents: Sequence[Document], *, length: int, count: int, seed: int, where: str
) -> list[Document]:
    """Choose `count` documents of at least `length` tokens by a hash of seed and id.

    A document's rank does not depend on its neighbours: a larger count only adds documents to a smaller one.
    """
    refuse_few([len(d.tokens) for d in documents], length=length, count=count, where=where)
    long_enough = [d for d in documents if len(d.tokens) >= length]
    return sorted(long_enough, key=lambda d: draw(seed, document_name(d)))[:count]


def refuse_few(lengths: Sequence[int], *, length: int, count: int, where: str) -> None:
    """Refuse documents of so many tokens each, of which less than `count` have `length`."""
    long_enough = sum(tokens >= length for tokens in lengths)
    if long_enough < count:
        raise EvalError(
            f"{where}: {count} held-out documents of at least {length} tokens must be there, got "
            f"{long_enough} of {len(lengths)} (the longest has {max(lengths, default=0)} tokens); lower "
            "documents or length, or hold out more"
        )


def document_name(document: Document) -> str:
    """Name a document by its id and, for the later pieces of a long one, its first token."""
    return f"{document.id}+{document.start}" if document.start else str(document.id)


def draw(seed: int, name: str) -> int:
    """Turn a seed and a name into 64 random bits that no other name disturbs."""
    return int.from_bytes(hashlib.sha256(f"{seed}:{name}".encode()).digest()[:8], "big")


@dataclass(frozen=True, kw_only=True, eq=False)
class Prompt:
    """Tokens [length], the last `answer_tokens` of them the answer."""

    tokens: Tokens
    answer_tokens: int


@dataclass(frozen=True, kw_only=True)
class Line:
    """A line to insert: before a token that leads with a newline, or after one that ends with it."""

    depth: float
    before: Tokens
    after: Tokens


class Frame:
    """Build prompts for one tokenizer from one set of documents."""

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, documents: Sequence[Document], *, where: str = "needles"
    ) -> None:
        self.tokenizer, self.documents, self.where = tokenizer, documents, where
        self._special = np.array(sorted(set(tokenizer.all_special_ids)), dtype=np.int64)

    def build(
        self,
        needle: Needle,
        *,
        length: int,
        depth: float,
        order: Sequence[int],
        others: Sequence[tuple[float, Needle]] = (),
    ) -> Prompt:
        """Hide `needle` at `depth` (0 top, 1 bottom) of documents joined in `order`, `others` at theirs."""
        front = self.front(self.documents[order[0]])
        ending, answer_tokens = self.ending(needle)
        lines = [self.line(depth, needle), *(self.line(d, other) for d, other in others)]
        free = length - len(front) - len(ending)
        room = free - sum(max(len(line.before), len(line.after)) for line in lines)
        if room < 1:
            raise EvalError(
                f"{self.where}.lengths: a prompt must hold some haystack beside its frame and {len(others)} "
                f"distractors ({length - room} tokens), got {length} tokens; ask for longer prompts"
            )
        body = self._planted(self.haystack(order, free), lines, room=room, free=free)
        tokens = np.concatenate([front, body, ending])
        assert tokens.size == length, (tokens.size, length)
        return Prompt(tokens=tokens, answer_tokens=answer_tokens)

    def front(self, document: Document) -> Tokens:
        """Return the special token that documents begin with, since the model always saw it; else nothing."""
        first = np.asarray(document.tokens[:1], dtype=np.int64)
        return first[np.isin(first, self._special)]

    def line(self, depth: float, needle: Needle) -> Line:
        text = needle.statement.strip("\n")
        return Line(depth=depth, before=self.encode(f"\n{text}"), after=self.encode(f"{text}\n"))

    def ending(self, needle: Needle) -> tuple[Tokens, int]:
        """Encode question and answer as one text; the answer begins at the first token that it changes."""
        question = f"\n{needle.question}"
        alone, both = self.encode(question), self.encode(question + needle.answer)
        common = min(alone.size, both.size)
        differs = np.flatnonzero(alone[:common] != both[:common])
        return both, both.size - int(differs[0] if differs.size else common)

    def haystack(self, order: Sequence[int], room: int) -> Tokens:
        """Join documents in `order`, without their special tokens, and cut after `room` tokens."""
        parts, have = [], 0
        for index in order:
            tokens = np.asarray(self.documents[index].tokens[: room + 2], dtype=np.int64)
            parts.append(tokens[~np.isin(tokens, self._special)])
            have += parts[-1].size
            if have >= room:
                return np.concatenate(parts)[:room]
        raise EvalError(
            f"{self.where}.lengths: the held-out documents must fill a haystack of {room} tokens, got "
            f"{have}; ask for shorter prompts or hold out more documents"
        )

    def encode(self, text: str) -> Tokens:
        return np.array(self.tokenizer.encode(text, add_special_tokens=False), dtype=np.int64)

    def _planted(self, hay: Tokens, lines: Sequence[Line], *, room: int, free: int) -> Tokens:
        """Return `free` tokens of haystack and lines, each where a line begins nearest to its depth."""
        leads, ends = self.newlines(hay[:room])
        cuts = np.union1d(np.flatnonzero(leads), np.flatnonzero(ends) + 1)
        cuts = np.union1d(cuts[cuts < room], [0, room])
        places = [int(cuts[np.abs(cuts - line.depth * room).argmin()]) for line in lines]
        # The haystack is cut anywhere at its bottom, so a line there brings its newline.
        forms = [
            line.before if place == room or (place > 0 and leads[place]) else line.after
            for line, place in zip(lines, places, strict=True)
        ]
        keep = free - sum(map(len, forms))  # room, or a token more where the shorter form was taken
        places = [keep if place == room else place for place in places]
        return plant(hay[:keep], places, forms)

    def newlines(self, tokens: Tokens) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Tell which tokens begin with a newline and which end with one."""
        known, where = np.unique(tokens, return_inverse=True)
        texts = [str(self.tokenizer.decode([int(t)])) for t in known]
        return (
            np.array([t.startswith("\n") for t in texts], dtype=bool)[where],
            np.array([t.endswith("\n") for t in texts], dtype=bool)[where],
        )
