"""How may a recipe mix the documents of its sources?

A mixture is declared in tokens: shares of a total, per source, and per source the share that must come from
long documents.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from ..sources.source import Section
from .scorer import ScoreSection
from .transform import TransformSection


class LongShare(Section):
    """Ask for a share of a source's tokens in long documents."""

    at_least: int = Field(gt=0)
    """Tokens from which a document counts as long."""
    share: float = Field(gt=0, le=1)
    """Share of the source's tokens that must come from long documents; below its natural share this is a
    no-op."""
    by: Literal["drop-short", "repeat-long"] = "drop-short"
    """Leave short documents out, or draw long ones again, up to `repeat` times."""


class Mixing(Section):
    """What every source may say of its part in the mixture."""

    weight: float | None = Field(default=None, ge=0, le=1)
    """Share of the plan's tokens; the weights of all sources sum to 1. 0: read, for other sources' use, but
    not trained. With `mode: global` documents have none."""
    groups: Literal["document", "pack"] = "document"
    """Attention scope: each document by itself, or the whole pack."""
    positions: Literal["reset", "continuous", "skip"] | None = None
    """From 0 in each group, running on over the pack, or skipping ahead (PoSE); None follows the groups."""
    skip_chunks: int = Field(default=2, ge=2)
    """Chunks of a pack that `positions: skip` spreads over the target length."""

    @model_validator(mode="after")
    def _skips(self) -> Mixing:
        if self.skip_chunks != 2 and self.positions != "skip":
            raise ValueError(
                f"skip_chunks: must go with positions: skip, got {self.skip_chunks} with "
                f"{self.positions}; remove it"
            )
        return self


class Selection(Mixing):
    """What may be said of a source that has documents to choose from."""

    min_tokens: int = Field(default=0, ge=0)
    """Shorter documents are left out of the mixture."""
    max_tokens: int | None = Field(default=None, gt=0)
    """Longer documents are left out of the mixture."""
    document_length: int | None = Field(default=None, gt=0)
    """Cut documents to pieces of exactly this many tokens and leave the rest out: ProLong's long pools."""
    long: LongShare | None = None
    repeat: float = Field(default=1.0, gt=0)
    """The most times a document's tokens may be drawn; by `repeat-long`, a long document's."""
    score: ScoreSection | None = None
    """A scorer, and the band of its scores that is kept."""
    transform: TransformSection | None = None
    """What is made of the chosen documents before they are packed."""

    @property
    def shortest(self) -> int:
        """Give the least tokens of a document that this source can draw from."""
        return max(self.min_tokens, self.document_length or 0)

    @model_validator(mode="after")
    def _lengths_are_possible(self) -> Selection:
        if self.max_tokens is not None and self.max_tokens < self.shortest:
            least = "min_tokens" if self.min_tokens == self.shortest else "document_length"
            raise ValueError(
                f"max_tokens: must be at least {least} {self.shortest}, got {self.max_tokens}; raise it"
            )
        if self.long and self.document_length:
            raise ValueError(
                f"long: must be left out where all documents are cut to one length, got it beside "
                f"document_length {self.document_length}; give long and short documents pools of their own"
            )
        return self

    @model_validator(mode="after")
    def _long_can_repeat(self) -> Selection:
        if self.long:
            refuse_no_repeat(self.long, self.repeat)
        return self


class PoolSource(Selection):
    """Another part of what a source reads: other lengths, another weight.

    Sources that draw from the same documents draw from different lengths, so none is trained in two of them.
    """

    kind: Literal["pool"]
    of: str
    """The source whose documents these are."""


class FactsSource(Mixing):
    """Documents that are drawn: facts planted in real text, asked at the end."""

    kind: Literal["facts"]
    text: str
    """The source whose training documents are the haystack."""
    facts: int = Field(default=8, ge=1)
    """The most facts in one document; the number is drawn evenly from 1 to this."""
    length: int | None = Field(default=None, gt=0)
    """Tokens of a document; None is the pack's length."""
    min_length: int | None = Field(default=None, gt=0)
    """Where set, lengths are drawn log-uniformly between this and `length`."""


class RepeatsSource(Mixing):
    """Rows of shuffled real tokens that repeat themselves."""

    kind: Literal["repeats"]
    text: str
    """The source whose training tokens are shuffled."""
    shortest: float = Field(default=0.125, gt=0, le=0.5)
    """Shortest period as a share of the row; periods are drawn between this and half of the row."""


def refuse_no_repeat(long: LongShare, repeat: float) -> None:
    """Raise where long documents are to repeat and may not."""
    if long.by == "repeat-long" and repeat <= 1:
        raise ValueError(
            f"long.by: must be drop-short where nothing may repeat, got repeat-long with repeat {repeat:g}; "
            "raise repeat"
        )
