"""How may a recipe mix the documents of its sources?

A mixture is declared in tokens: shares of a total, per source, and per source the share that must come from
long documents.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import ConfigDict, Field

from ..sources.spec import Section


class LongShare(Section):
    """Ask for a share of a source's tokens in long documents."""

    at_least: int = Field(gt=0)
    """Tokens from which a document counts as long."""
    share: float = Field(gt=0, le=1)
    """Share of the source's tokens that must come from long documents; below its natural share this is a
    no-op."""
    by: Literal["drop-short", "repeat-long"] = "drop-short"
    """Leave short documents out, or draw long ones again, up to `repeat` times."""


class PluginSection(Section):
    """Name a plug-in; the other keys are its own knobs."""

    model_config = ConfigDict(extra="allow")

    kind: str

    @property
    def knobs(self) -> dict[str, Any]:
        """Give the plug-in's own knobs as written."""
        return dict(self.model_extra or {})


class Mixing(Section):
    """What every source may say of its part in the mixture."""

    weight: float | None = Field(default=None, ge=0, le=1)
    """Share of the plan's tokens; the weights of all sources sum to 1. 0: read, for other sources' use, but
    not trained."""
    groups: Literal["document", "pack"] = "document"
    """Attention scope: each document by itself, or the whole pack."""
    positions: Literal["reset", "continuous", "skip"] | None = None
    """From 0 in each group, running on over the pack, or skipping ahead (PoSE); None follows the groups."""
    skip_chunks: int = Field(default=2, ge=2)
    """Chunks of a pack that `positions: skip` spreads over the target length."""


class Documents(Mixing):
    """What may be said of a source that has documents to choose from."""

    min_tokens: int = Field(default=0, ge=0)
    """Shorter documents are left out of the mixture."""
    max_tokens: int | None = Field(default=None, gt=0)
    """Longer documents are left out of the mixture."""
    document_length: int | None = Field(default=None, gt=0)
    """Cut documents to pieces of exactly this many tokens and leave the rest out: ProLong's long pools."""
    long: LongShare | None = None
    repeat: float = Field(default=1.0, gt=0)
    """The most times a document's tokens may be drawn."""
    score: PluginSection | None = None
    """A scorer, and the band of its scores that is kept."""
    transform: PluginSection | None = None
    """What is made of the chosen documents before they are packed."""


class PoolSource(Documents):
    """Another part of what a source reads: other lengths, another weight."""

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
