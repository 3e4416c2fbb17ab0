"""Does the model find a line that stands anywhere in its window?

A key-value fact is hidden in held-out text and asked for at the end; keys and values are of the half that
no training document contains. One forward a prompt and no generation: a needle is found if every answer
token is the model's first choice, given the ones before it. Greedy generation finds exactly the same
needles, at many times the cost.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from pydantic import Field, WrapValidator

from ...data import Document, Facts, Needle
from ..errors import EvalError
from ..haystack import Frame, Prompt, draw
from ..result import Result, Words, cell_of
from ..task import Context, GetTokenizer, Subject, Task, task


def _as_written(depth: Any, check: Any) -> Any:
    """Keep a 0 apart from a 0.0, which draws other needles."""
    check(depth)
    return depth


Length = Annotated[int, Field(ge=1)]
Depth = Annotated[float, Field(ge=0, le=1), WrapValidator(_as_written)]


@task("needles")
@dataclass(frozen=True, kw_only=True)
class Needles(Task):
    """Measure the share of needles found (0..1) by prompt length (tokens) and depth (0 top, 1 bottom)."""

    words = Words(
        label="needles found",
        quantity="needles found",
        unit="fraction",
        better="higher",
        items="needles",
        axis="prompts",
        picture="grid",
    )

    lengths: tuple[Length, ...] = (256, 512, 1024, 2048, 4096)
    """Tokens of a prompt with its answer."""
    depths: tuple[Depth, ...] = (0.0, 0.25, 0.5, 0.75, 1.0)
    """Where in the prompt the fact is hidden: 0 at the top, 1 at the bottom."""
    per_cell: Annotated[int, Field(ge=1)] = 10
    """Prompts for each length and depth."""
    distractors: Annotated[int, Field(ge=0)] = 0
    """Other facts in the same prompt."""

    def __post_init__(self) -> None:
        for name in ("lengths", "depths"):
            values = getattr(self, name)
            different = bool(values) and len(set(values)) == len(values)
            self.require(
                different, name, "must be one or several different numbers", "write at least one, each once"
            )

    @classmethod
    def sized(cls, length: int, window: int) -> Needles:
        first = min(window, length) // 2
        lengths = [first * 2**k for k in range(16) if first * 2**k < length]
        return cls(lengths=(*lengths, length))

    def protocol(self) -> str:
        beside = f" among {self.distractors} other facts" if self.distractors else ""
        return (
            f"{self.per_cell} facts for each prompt length and depth, hidden at a line's start in held-out "
            f"text{beside} and asked for at the end; prompt and answer have exactly the stated length. "
            "Found: every answer token is the model's first choice, teacher-forced. Keys and values occur in "
            "no training document; the wording of the frame may."
        )

    @property
    def longest(self) -> int:
        return max(self.lengths)

    def tokens_scored(self) -> int:
        return sum(self.lengths) * len(self.depths) * self.per_cell

    def check(self, tokenizer: GetTokenizer, documents: Sequence[Document], seed: int) -> None:
        frame = Frame(tokenizer(), documents, where=self.name)
        for length in self.lengths:
            self.prompt(frame, seed, length, self.depths[0], 0)

    def run(self, subject: Subject, context: Context) -> Result:
        frame = Frame(subject.tokenizer, context.documents, where=self.name)
        cells, rows = [], []
        for length in self.lengths:
            prompts = [
                self.prompt(frame, context.seed, length, depth, i)
                for depth in self.depths
                for i in range(self.per_cell)
            ]
            found = np.reshape(self._found(prompts, subject, context, length), (len(self.depths), -1))
            for depth, values in zip(self.depths, found, strict=True):
                items = [f"{length}/{depth:g}/{i}" for i in range(self.per_cell)]
                cells.append(cell_of(items, values, np.ones(self.per_cell), length=length, depth=depth))
            rows += [p.tokens for p in prompts]
        example = self.facts(context.seed, self.lengths[0], self.depths[0], 0)[0]
        words = {"statement": example.statement, "question": example.question, "answer": example.answer}
        return self.result(cells, rows, frame=words)

    def facts(self, seed: int, length: int, depth: float, index: int) -> list[Needle]:
        """Draw the needle of one prompt and its distractors, all with different keys."""
        return Facts(split="heldout").needles(
            _random(seed, length, depth, index, "facts"), 1 + self.distractors
        )

    def prompt(self, frame: Frame, seed: int, length: int, depth: float, index: int) -> Prompt:
        """Build prompt `index` of a cell: its own fact, its own haystack, whatever the other cells are."""
        random = _random(seed, length, depth, index, "haystack")
        needle, *others = self.facts(seed, length, depth, index)
        order = [int(i) for i in random.permutation(len(frame.documents))]
        if not order:
            raise EvalError(f"{self.name}: held-out documents must be there, got 0; hold out some text")
        places = random.random(len(others))
        return frame.build(
            needle, length=length, depth=depth, order=order, others=list(zip(places, others, strict=True))
        )

    def _found(
        self, prompts: Sequence[Prompt], subject: Subject, context: Context, length: int
    ) -> list[bool]:
        return context.score_rows(
            [p.tokens for p in prompts],
            subject,
            what=f"needles at {length}",
            keep=lambda i, _, correct: bool(correct[-prompts[i].answer_tokens :].all()),
        )


def _random(seed: int, length: int, depth: float, index: int, use: str) -> np.random.Generator:
    return np.random.default_rng(draw(seed, f"{length}/{depth!r}/{index}/{use}"))
