"""How is a needle hidden in a haystack so that the whole prompt has exactly the wanted number of tokens?

    [front] haystack ... statement ... haystack [newline] question answer

All of it stays in tokens: the haystack keeps the tokens its documents were stored as, and only where a line is inserted
is a token cut that reaches over the line's end (" \\n    " and the like). Nothing is cut silently: if statement, question
and answer leave no room, or the documents run out, that is an error.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .errors import EvalError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from ..data import Document


@dataclass(frozen=True, kw_only=True)
class Fact:
    """A statement to hide, the question for it, and the answer that must follow the question."""

    statement: str
    question: str
    answer: str


@dataclass(frozen=True, kw_only=True, eq=False)
class Prompt:
    """Token row [length] whose last `answer_tokens` tokens are the answer; the statement starts at token `at`."""

    tokens: NDArray[np.int64]
    answer_tokens: int
    at: int


class Frame:
    """Build prompts for one tokenizer and one set of documents."""

    def __init__(
        self, tokenizer: "PreTrainedTokenizerBase", documents: Sequence["Document"], *, where: str = "needles"
    ) -> None:
        self.tokenizer, self.documents, self.where = tokenizer, documents, where
        self._special = np.array(sorted(set(tokenizer.all_special_ids)), dtype=np.int64)
        self._newline = self.encode("\n")
        self._halves: dict[int, tuple[str, str] | None] = {}

    def build(
        self, fact: Fact, *, length: int, depth: float, order: Sequence[int], others: Sequence[tuple[float, Fact]] = ()
    ) -> Prompt:
        """Hide `fact` at `depth` (0 first line, 1 last line) of documents joined in `order`; `others` are distractors."""
        front = self.front(self.documents[order[0]])
        ending, answer_tokens = self.question(fact)
        lines = [(depth, self.line(fact)), *((d, self.line(other)) for d, other in others)]
        room = length - len(front) - len(ending) - sum(len(tokens) for _, tokens in lines)
        if room < len(self._newline):
            raise EvalError(
                f"{self.where}.lengths: the frame and its {len(others)} distractors must fit, got {length} tokens for "
                f"{length - room} and the haystack; ask for longer prompts or fewer distractors"
            )
        body, at = self._insert(self.haystack(order, room), lines)
        tokens = np.concatenate([front, body, ending])
        assert tokens.size == length, (tokens.size, length)
        return Prompt(tokens=tokens, answer_tokens=answer_tokens, at=len(front) + at)

    def front(self, document: "Document") -> NDArray[np.int64]:
        """Return the special token that documents start with, as the model has always seen it; else nothing."""
        first = np.asarray(document.tokens[:1], dtype=np.int64)
        return first[np.isin(first, self._special)]

    def line(self, fact: Fact) -> NDArray[np.int64]:
        return self.encode(fact.statement if fact.statement.endswith("\n") else fact.statement + "\n")

    def question(self, fact: Fact) -> tuple[NDArray[np.int64], int]:
        """Encode question and answer as one text; the answer begins at the first token that it changes."""
        alone, both = self.encode(fact.question), self.encode(fact.question + fact.answer)
        common = min(alone.size, both.size)
        differs = np.flatnonzero(alone[:common] != both[:common])
        return both, both.size - int(differs[0] if differs.size else common)

    def haystack(self, order: Sequence[int], room: int) -> NDArray[np.int64]:
        """Join documents in `order`, without their special tokens, and cut after `room` tokens."""
        parts, have = [], 0
        for index in order:
            tokens = np.asarray(self.documents[index].tokens[: room - have], dtype=np.int64)
            parts.append(tokens[~np.isin(tokens, self._special)])
            have += parts[-1].size
            if have >= room:
                return np.concatenate(parts)[:room]
        raise EvalError(
            f"{self.where}.lengths: the held-out documents must fill the haystack of {room} tokens, got {have}; "
            "ask for shorter prompts or hold out more documents"
        )

    def encode(self, text: str) -> NDArray[np.int64]:
        return np.array(self.tokenizer.encode(text, add_special_tokens=False), dtype=np.int64)

    def _insert(
        self, hay: NDArray[np.int64], lines: Sequence[tuple[float, NDArray[np.int64]]]
    ) -> tuple[NDArray[np.int64], int]:
        """Put each (depth, tokens) at the line start nearest to its depth; return also where the first one begins.

        A token cut in two may need more room than it had: the haystack gives it up at its end.
        """
        cuts = np.array([0, *(i + 1 for i, t in enumerate(hay) if self._split(int(t))), hay.size])
        places = [int(cuts[np.abs(cuts - depth * hay.size).argmin()]) for depth, _ in lines]
        halves = {place: self._encoded_halves(int(hay[place - 1])) for place in places if 0 < place < hay.size}
        size = hay.size - sum(len(head) + len(tail) - 1 for head, tail in halves.values())
        hay = self._closed(hay[:size])
        parts, used, start = [], 0, 0
        for which in sorted(range(len(lines)), key=lambda i: places[i]):
            place = min(places[which], size)
            head, tail = halves.pop(places[which], (None, None)) if place < size else (None, None)
            del head, tail
            parts.append(hay[used:place])
            used = place
        return np.concatenate(parts), start
