"""What does `rope search` check and plan?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ...rope import FULL, Base, RopeError
from ...rope.search import ALGORITHMS, FIRST_TOKENS, METHODS, Space
from ...train.storage import place_problems
from ..language.errors import RecipeError
from ..language.facts import model_facts
from ..language.files import missing_files, tokenizer_problems
from ..language.ranks import head_problems, measuring_problems
from ..language.schema import Recipe
from .plan import MeasuringPlan
from .stores import unprepared


@dataclass(frozen=True, kw_only=True)
class Search:
    """Say which search this is; `tokens` only says how far it goes."""

    method: str = "longrope"
    algorithm: str = "racing"
    seed: int = 0
    documents: int = 5
    tokens: int | None = None
    first_tokens: bool = False

    @property
    def name(self) -> str:
        """Name its folder."""
        first = "-first" if self.first_tokens else ""
        return f"{self.method}{first}-{self.algorithm}-{self.documents}-seed{self.seed}"

    @property
    def fitness(self) -> str:
        """Say what a loss is the mean of."""
        return "needle answers" if self.method == "longrope2" else "all tokens"

    def folder(self, stage: Recipe) -> Path:
        """Return where the journal and the factors lie."""
        return Path(stage.run_dir) / "search" / self.name

    def space(self, base: Base, target_length: int) -> Space:
        """Return the vectors searched over."""
        choices = FIRST_TOKENS if self.first_tokens else (0,)
        return METHODS[self.method](base=base, target_length=target_length, choices=choices)

    def least(self, base: Base, target_length: int) -> int:
        """Count the tokens that grading the seeds reads."""
        space = self.space(base, target_length)
        return ALGORITHMS[self.algorithm]().least(space, self.documents) * target_length

    def limit(self, target_length: int) -> int | None:
        """Return the forwards that the tokens are enough for."""
        return None if self.tokens is None else self.tokens // target_length


@dataclass(frozen=True)
class SearchPlan(MeasuringPlan):
    """A search for the model of a recipe at its last target length."""

    script = "search"
    search: Search = Search()

    @property
    def words(self) -> list[str]:
        options = vars(self.search) | {"first_tokens": None}
        given = [f"--{name}={value}" for name, value in options.items() if value is not None]
        return [self.recipe, *self.overrides, *given, *["--first-tokens"] * self.search.first_tokens]

    def problems(self, world: int) -> Iterator[str]:
        """Find what stands in the way of searching, before anything is loaded."""
        stage, search = self.stage, self.search
        if stage.model.path is None:
            yield "model.path: must be a model to search for, got one from scratch; train it first"
        yield from tokenizer_problems(stage)
        yield from place_problems("run_dir", stage.run_dir)
        try:
            facts = model_facts(stage)
            yield from measuring_problems(stage, facts, world, whole=False)
            yield from head_problems(facts)
            least = search.least(facts.bases[FULL], stage.target_length)
        except (RopeError, RecipeError) as error:
            yield str(error)
            return
        if search.tokens is not None and search.tokens < least:
            yield (
                f"--tokens: must be enough for the seeds on {search.documents} documents, {least:,}, "
                f"got {search.tokens:,}; raise it, or lower --documents"
            )

    def missing(self) -> list[str]:
        return missing_files(self.stage)

    def lacking(self) -> list[str]:
        return [*self.missing(), *unprepared(self, plans=False)]

    def rows(self) -> Iterator[tuple[str, str]]:
        stage, search, length = self.stage, self.search, self.stage.target_length
        base = model_facts(stage).bases[FULL]
        most = ALGORITHMS[search.algorithm]().most(search.documents)
        bounds = [n for n in (most, search.limit(length)) if n is not None]
        at_most = f"at most {min(bounds) * length:,} tokens" if bounds else "until it gains no more"
        yield "model", f"{stage.model.path}: {base.original_length:,} -> {length:,} tokens"
        factors = search.space(base, length).pairs
        yield "search", f"{search.method}, {search.algorithm}, seed {search.seed}: {factors} factors"
        yield "fitness", f"loss of {search.fitness} on {search.documents} held-out documents"
        yield "reads", f"at least {search.least(base, length):,} tokens, {at_most}"
        yield "writes", str(search.folder(stage))
