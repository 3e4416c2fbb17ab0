"""What is an evaluation task: settings, a protocol in words, and a run on one model.

A task is one file in `tasks/` holding one frozen dataclass decorated with `@task("name")`; nothing else
is edited. What it measures is a pure function of its settings, the seed and the corpus, never of the
model: so every model meets the same items, and differences are formed item by item (`paired.py`).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeVar, get_args, get_origin, get_type_hints

import numpy as np
from numpy.typing import NDArray

from .errors import EvalError
from .result import Cell, Result, Unit, fingerprint_rows

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from ..data import Document
    from ..train.mesh import Mesh

Progress = Callable[[str, int, int], None]


def silent(what: str, done: int, total: int) -> None:
    """Show nothing; every progress callback gets what is measured, forwards done and forwards in all."""


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A model under a name, on which `rope.install` has run."""

    name: str
    model: "PreTrainedModel"
    tokenizer: "PreTrainedTokenizerBase"


@dataclass(frozen=True, kw_only=True)
class Context:
    """What tasks measure with: held-out documents, ranks, tokens a forward may hold, the seed of items.

    `reference` names the model that gains are measured against; some tasks do more for it.
    """

    documents: Sequence["Document"]
    reference: str
    mesh: "Mesh"
    batch_tokens: int = 8192
    seed: int = 0
    progress: Progress = silent

    def __post_init__(self) -> None:
        if self.batch_tokens < 1:
            raise EvalError(
                f"evaluate.batch_tokens: must be a positive number of tokens, got {self.batch_tokens}; "
                "8192 is usual"
            )


@dataclass(frozen=True, kw_only=True)
class Task:
    """The settings of one measurement; a subclass adds its own and says what its numbers mean."""

    kind: ClassVar[str] = ""
    label: ClassVar[str]
    unit: ClassVar[Unit]
    better: ClassVar[Literal["lower", "higher"]]
    picture: ClassVar[Literal["curve", "grid", "bars"] | None] = None

    def check(self, subject: Subject, context: Context) -> None:
        """Refuse, before any forward, what the documents cannot give."""

    def run(self, subject: Subject, context: Context) -> Result:
        raise NotImplementedError

    def protocol(self) -> str:
        """Say in one or two sentences how the number comes about; it stands in the report."""
        raise NotImplementedError

    @classmethod
    def sized(cls, length: int, window: int) -> "Task":
        """Choose settings to measure up to `length` tokens where the reference was trained to `window`."""
        raise NotImplementedError

    def result(self, cells: Sequence[Cell], rows: Sequence[NDArray[Any]], **notes: Any) -> Result:
        """Wrap the cells measured on token `rows` with what this task knows of itself."""
        return Result(
            task=self.kind,
            kind=self.kind,
            settings={k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()},
            label=self.label,
            unit=self.unit,
            better=self.better,
            picture=self.picture,
            protocol=self.protocol(),
            items_fingerprint=fingerprint_rows(rows),
            cells=tuple(cells),
            notes=notes,
        )

    def require(self, holds: bool, setting: str, rule: str, cure: str) -> None:
        """Refuse a setting of this task unless the rule holds."""
        if not holds:
            raise EvalError(f"{self.kind}.{setting}: {rule}, got {getattr(self, setting)}; {cure}")


class Tasks(dict[str, type[Task]]):
    """The tasks by name."""

    def validate(self, kind: str, settings: Mapping[str, Any]) -> Task:
        return make_task(kind, **settings)


TASKS = Tasks()
T = TypeVar("T", bound=type[Task])


def task(kind: str) -> Callable[[T], T]:
    """Register the decorated task under `kind`."""
    return partial(_register, kind)


def _register(kind: str, cls: T) -> T:
    taken = TASKS.get(kind)
    if taken is not None and taken.__module__ != cls.__module__:
        raise EvalError(
            f"task {kind}: the name must be free, got {cls.__module__} beside {taken.__module__}; rename one"
        )
    cls.kind = kind
    TASKS[kind] = cls
    return cls


def make_task(kind: str, **settings: Any) -> Task:
    """Make a task from a recipe's settings; unknown names and wrong types are refused."""
    if kind not in TASKS:
        raise EvalError(f"eval task: the kind must be one of {sorted(TASKS)}, got {kind!r}; correct it")
    cls = TASKS[kind]
    hints = get_type_hints(cls)
    names = [f.name for f in fields(cls)]
    for name, value in settings.items():
        if name not in names:
            raise EvalError(
                f"{kind}.{name}: the setting must be one of {names}, got {name!r} = {value!r}; drop it"
            )
        if not _fits(value, hints[name]):
            raise EvalError(
                f"{kind}.{name}: must be {_spell(hints[name])}, got {value!r}; write it without quotes or "
                "suffixes"
            )
    return cls(**{name: tuple(v) if isinstance(v, list) else v for name, v in settings.items()})


SPELLING: dict[Any, str] = {int: "a whole number", float: "a number", str: "text", type(None): "null"}


def _fits(value: Any, kind: Any) -> bool:
    if get_origin(kind) is tuple:
        return isinstance(value, list | tuple) and all(_fits(v, get_args(kind)[0]) for v in value)
    if get_args(kind):
        return any(_fits(value, option) for option in get_args(kind))
    if kind in (int, float) and isinstance(value, bool):
        return False
    return isinstance(value, (int, float) if kind is float else kind)


def _spell(kind: Any) -> str:
    if get_origin(kind) is tuple:
        return f"a list of {_spell(get_args(kind)[0])}"
    if get_args(kind):
        return " or ".join(_spell(option) for option in get_args(kind))
    return SPELLING.get(kind, str(kind))


def cell_of(
    items: Sequence[str],
    values: Sequence[float] | NDArray[Any],
    weights: Sequence[float] | NDArray[Any],
    **where: Any,
) -> Cell:
    """Make a cell from one value and one weight an item; `where` as the fields of Cell."""
    return Cell(
        items=tuple(items),
        values=np.asarray(values, dtype=np.float64),
        weights=np.asarray(weights, dtype=np.float64),
        **where,
    )
