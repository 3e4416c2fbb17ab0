"""What may stand in the `compare:` section of a recipe?

compare:
  schemes: [{kind: linear}, {kind: yarn, beta_fast: 16}, {kind: default, trained: false}]
  factors: [2, 4, 8]
  learning_rates: [5e-4, 1e-3]
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from ....train.settings import Positive, Section
from ...language.schema import SchemeSection


class SchemeEntry(SchemeSection):
    """Name a scheme that takes part."""

    trained: bool | None = None
    """Train with it too; null: yes, unless it is meant for weights that were never trained with it."""

    @model_validator(mode="after")
    def _can_be_trained(self) -> SchemeEntry:
        if self.scheme.training_free and self.trained:
            raise ValueError(
                f"trained: must be left out for {self.kind}, which is for untrained weights, got true; "
                "remove it"
            )
        return self

    @property
    def trains(self) -> bool:
        return not self.scheme.training_free if self.trained is None else self.trained

    @property
    def label(self) -> str:
        """Name the scheme with the knobs that the recipe states."""
        return " ".join([self.kind, *(f"{name}={value}" for name, value in self.knobs.items())])


class CompareSection(Section):
    """Say which schemes meet, how far they are stretched and how they are trained."""

    schemes: list[SchemeEntry]
    """At least two, each with its kind and knobs."""
    factors: list[Annotated[float, Field(gt=1)]]
    """Target lengths in original lengths."""
    trained: bool = True
    """Also train; false compares training-free only."""
    learning_rates: list[Annotated[float, Field(gt=0)]] = Field(default_factory=list)
    """Peaks to choose from for each scheme; empty: the recipe's own for all."""
    stretch: Literal["equal", "published"] = "equal"
    """equal: each scheme's one free knob is set so that its stretch is the factor."""
    seeds: Positive = 1
    """Seeds of the data's mixture and order, counted from the recipe's own."""

    @field_validator("schemes")
    @classmethod
    def _are_several(cls, entries: list[SchemeEntry]) -> list[SchemeEntry]:
        if len(entries) < 2:
            raise ValueError(f"must name at least two schemes, got {len(entries)}; add another")
        _check_once([entry.label for entry in entries])
        return entries

    @field_validator("factors", "learning_rates")
    @classmethod
    def _are_different(cls, values: list[float]) -> list[float]:
        _check_once(values)
        return values

    @field_validator("factors")
    @classmethod
    def _is_a_factor(cls, factors: list[float]) -> list[float]:
        if not factors:
            raise ValueError("must name at least one factor, got none; [2, 4, 8] is usual")
        return factors

    @property
    def middle(self) -> float:
        """Give the factor at which learning rates are chosen."""
        return sorted(self.factors)[len(self.factors) // 2]


def _check_once(values: Sequence[object]) -> None:
    twice = [value for value in dict.fromkeys(values) if values.count(value) > 1]
    if twice:
        raise ValueError(f"must be named once each, got {twice[0]} twice; remove one")
