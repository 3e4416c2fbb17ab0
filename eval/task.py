"""What is an evaluation task: settings, the words for its numbers, and a run on one model.

A task is one file in `tasks/` holding one frozen dataclass decorated with `@task("kind")`; nothing else
is edited. What it measures is a pure function of its settings, the seed and the corpus, never of the
model: so every model meets the same items, and differences are formed item by item (`paired.py`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from ..data import Document
from ..data.registry import Registry
from .errors import EvalError
from .result import Cell, Result, Words, fingerprint_rows

if TYPE_CHECKING:  # heavy, and of a model nothing but the name is needed to define a task
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

NAME = re.compile(r"[\w-]+")
"""What a recipe may call a task: it names files."""
V = TypeVar("V")
GetTokenizer = Callable[[], "PreTrainedTokenizerBase"]
Keep = Callable[[int, NDArray[np.float64], NDArray[np.bool_]], V]
Progress = Callable[[str, int, int], None]


def silent(what: str, done: int, total: int) -> None:
    """Show nothing; every progress callback gets what is measured, forwards done and forwards in all."""


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A model under a name, on which `rope.install` has run."""

    name: str
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase


class ScoreRows(Protocol):
    """Score rows of one length N and return `keep(index, loss [N - 1], correct [N - 1])` for each, in order.

    Loss is in nats, correct tells whether a token was the model's first choice; `what` is for progress.
    """

    def __call__(
        self, rows: Sequence[NDArray[Any]], subject: Subject, *, what: str, keep: Keep[V]
    ) -> list[V]: ...


@dataclass(frozen=True, kw_only=True)
class Context:
    """What tasks measure with: held-out documents, the seed of items, and what runs forwards.

    `reference` names the model that gains are measured against; some tasks do more for it.
    """

    documents: Sequence[Document]
    reference: str
    score_rows: ScoreRows
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class Task:
    """The settings of one measurement; a subclass adds its own and says what its numbers mean."""

    name: ClassVar[str] = ""
    "the kind, as recipes write it"
    words: ClassVar[Words]

    def check(self, tokenizer: GetTokenizer, documents: Sequence[Document], seed: int) -> None:
        """Refuse, before there is a model, what the held-out documents cannot give."""

    def check_lengths(self, lengths: Sequence[int]) -> None:
        """Refuse, before there are tokens, what held-out documents of about these lengths cannot give."""

    def run(self, subject: Subject, context: Context) -> Result:
        raise NotImplementedError

    def protocol(self) -> str:
        """Say in one or two sentences how the number comes about; it stands in the report."""
        raise NotImplementedError

    @property
    def longest(self) -> int:
        """Give the tokens of the longest row that a model is given."""
        raise NotImplementedError

    def tokens_scored(self) -> int:
        """Count the tokens forwarded for a model, without what is done for the reference alone."""
        raise NotImplementedError

    @classmethod
    def sized(cls, length: int, window: int) -> Task:
        """Choose settings to measure up to `length` tokens where the reference was trained to `window`."""
        raise NotImplementedError

    def result(self, cells: Iterable[Cell], rows: Iterable[NDArray[Any]], **notes: Any) -> Result:
        """Wrap the cells measured on token `rows` with what this task knows of itself.

        The note `frame` shows one item on the page: its `statement`, `question` and `answer`.
        """
        return Result(
            task=self.name,
            kind=self.name,
            settings={k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()},
            words=self.words,
            protocol=self.protocol(),
            items_fingerprint=fingerprint_rows(rows),
            cells=tuple(cells),
            notes=notes,
        )

    def require(self, holds: bool, setting: str, rule: str, cure: str) -> None:
        """Refuse a setting of this task unless the rule, which involves others, holds."""
        if not holds:
            raise EvalError(f"{self.name}.{setting}: {rule}, got {getattr(self, setting)}; {cure}")


TASKS: Registry[Task] = Registry("eval task", error=EvalError)
task = TASKS
"""The decorator of a new task."""


def make_task(kind: str, **settings: Any) -> Task:
    """Make a task from settings as a recipe has them; one EvalError lists what is wrong with them."""
    return TASKS.make(kind, settings)


def check_tasks(
    tasks: Mapping[str, Task],
    tokenizer: GetTokenizer,
    documents: Sequence[Document],
    seed: int,
) -> None:
    """Refuse before any forward what the documents cannot give, all tasks at once.

    The tokenizer is opened where a task asks for it.
    """
    problems = []
    for name, task in tasks.items():
        if not NAME.fullmatch(name):
            problems.append(
                f"eval.tasks: a name must be letters, digits, -, _ (it names a file), got {name!r}; rename it"
            )
        try:
            task.check(tokenizer, documents, seed)
        except EvalError as problem:
            problems.append(f"eval.tasks.{name}: {problem}")
    if problems:
        raise EvalError("\n".join(problems))
