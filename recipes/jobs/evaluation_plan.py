"""What does `evaluate` check and plan for a model folder that a recipe did not make?"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tokenizers import Tokenizer

from ...rope import AttentionScheme, RopeError, Scheme, make_scheme, refusals
from ...rope.engines import text_problems, weight_problems
from ...train.errors import TrainError
from ...train.progress import own_scheme
from ...train.settings import ModelSection
from ..language.check import task_problems
from ..language.errors import RecipeError
from ..language.facts import ModelFacts, facts_of
from ..language.files import missing_files, tokenizer_problems
from ..language.ranks import head_problems, measuring_problems
from ..language.schema import Recipe
from ..options import on_demand, read_knobs
from ..show.plan import frequency_rows
from .plan import MeasuringPlan
from .stores import unprepared


@dataclass(frozen=True)
class EvaluationPlan(MeasuringPlan):
    """The tasks of a recipe on a model folder, with a scheme or, without one, as the model is."""

    script = "evaluate"
    model: Path = Path()
    scheme: Scheme | None = None

    @property
    def words(self) -> list[str]:
        scheme = [] if self.scheme is None else ["--scheme", written_scheme(self.scheme)]
        return [str(self.model), "--recipe", self.recipe, *self.overrides, *scheme]

    @property
    def facts(self) -> ModelFacts:
        """Read the rotary facts of the model folder, with the lengths the recipe states."""
        return facts_of(self.stage, self.model)

    def turning(self, facts: ModelFacts) -> Scheme:
        """Give the scheme that is measured: what is asked, else the folder's own."""
        current = next(iter(facts.bases.values())).current
        return self.scheme or (own_scheme(self.model) or (current, 0))[0]

    def problems(self, world: int) -> Iterator[str]:
        """Find what is wrong with the tasks, the model, its tokenizer and the degree."""
        eval_ = self.stage.eval
        if not eval_.tasks:
            yield "eval.tasks: must name at least one task, got none; add one, e.g. kind: position_loss"
        for problem in [*weight_problems(self.model), *text_problems(self.model)]:
            yield f"MODEL {self.model}: {problem}"
        try:
            facts = self.facts
            whole = isinstance(self.turning(facts), AttentionScheme)
        except (RopeError, RecipeError, TrainError) as error:
            yield f"MODEL {self.model}: {error}"
            return
        yield from measuring_problems(self.stage, facts, world, whole)
        yield from head_problems(facts, f"MODEL {self.model}: config")
        yield from task_problems(self.stage)
        try:
            yield from self._refusals(facts)
        except RopeError as error:
            yield f"--scheme: {error}"
        yield from self._tokenizer_problems()

    def _refusals(self, facts: ModelFacts) -> Iterator[str]:
        """Find why the scheme cannot be installed on the model."""
        if self.scheme is not None:
            kind, length = str(facts.config.get("model_type")), self.stage.target_length
            yield from refusals(facts.bases, self.scheme, length, model_type=kind, replace=True)

    def missing(self) -> list[str]:
        lines = missing_files(self._on_the_model)
        return [line.replace("model.path:", "MODEL:", 1) for line in lines if line.startswith("model.path")]

    def lacking(self) -> list[str]:
        return [*self.missing(), *unprepared(self, plans=False)]

    @property
    def _on_the_model(self) -> Recipe:
        return self.stage.model_copy(update={"model": ModelSection(path=str(self.model))})

    def _tokenizer_problems(self) -> Iterator[str]:
        """The held-out documents are tokens already: another vocabulary would read them as noise."""
        corpus = self.stage.model.tokenizer_folder
        try:
            same = not corpus.is_dir() or vocabulary(self.model) == vocabulary(corpus)
        except Exception as error:  # tokenizers raises bare Exception
            yield f"MODEL {self.model}: must hold a tokenizer, got none that loads ({error}); copy one there"
            return
        if not same:
            yield (
                f"MODEL {self.model}: must have the vocabulary of the recipe's tokenizer {corpus}, got "
                "another; use a recipe prepared with this model's tokenizer (model.tokenizer=... "
                "data.store=...)"
            )
        for line in tokenizer_problems(self._on_the_model):
            yield line.replace("model.tokenizer:", "MODEL:", 1)

    def rows(self) -> Iterator[tuple[str, str]]:
        facts = self.facts
        base = next(iter(facts.bases.values()))
        kind = facts.config.get("model_type")
        yield "model", f"{self.model}: {kind}, trained length {base.trained_length:,}"
        if self.scheme is not None:
            yield from frequency_rows(self.scheme, facts.bases, self.stage.target_length)
        else:
            length = (own_scheme(self.model) or (None, base.trained_length))[1]
            yield from frequency_rows(self.turning(facts), facts.bases, length)
        for name, task in self.stage.tasks.items():
            yield name, task.protocol()


def read_scheme(text: str) -> Scheme:
    """Read `yarn,beta_fast=16` as a scheme."""
    kind, *knobs = text.split(",")
    return make_scheme(kind, **read_knobs(knobs, where="--scheme", example=f"{kind},factor=8"))


def written_scheme(scheme: Scheme) -> str:
    """Write a scheme as it is read."""
    knobs = [f"{name}={json.dumps(value)}" for name, value in scheme.knobs.items() if value is not None]
    return ",".join([scheme.name, *knobs])


def vocabulary(folder: Path) -> dict[str, int]:
    """Read the tokens of a tokenizer with their ids; one without a tokenizer.json needs transformers."""
    file = folder / "tokenizer.json"
    if file.is_file():
        return Tokenizer.from_file(str(file)).get_vocab()
    return on_demand("recipes.jobs.evaluation").tokenizer_of(folder).get_vocab()
