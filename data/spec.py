"""What may stand in the `data:` section of a recipe?

A mixture is declared in tokens: shares of a total, per source, and per source the share that must come from
long documents.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

DEFAULT_EXCLUDE = (
    "test", "tests", "_vendor", "vendor", "_vendored", "third_party", "site-packages", "idlelib", ".*",
)  # fmt: skip


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class LongShare(_Section):
    at_least: int = Field(gt=0)
    """Tokens from which a document counts as long."""
    share: float = Field(gt=0, le=1)
    """Share of the source's tokens that must come from long documents; below its natural share this is a
    no-op."""


class _Source(_Section):
    weight: float = Field(ge=0, le=1)
    """Share of the plan's tokens; the weights of all sources sum to 1. 0: read, for other sources' use, but
    not trained."""
    groups: Literal["document", "pack"] = "document"
    """Attention scope: each document by itself with its own positions, or the whole pack."""


class FilesSource(_Source):
    kind: Literal["files"]
    paths: tuple[str, ...] = Field(min_length=1)
    """Folders, files or globs; `python:stdlib` is the running interpreter's library, `python:NAME` an
    installed package."""
    suffixes: tuple[str, ...] = (".py", ".txt", ".md", ".rst")
    """File names taken from folders; globs and single files are taken as they are."""
    exclude: tuple[str, ...] = DEFAULT_EXCLUDE
    """Globs over the path below the folder, whole or any one part of it."""
    on_error: Literal["raise", "skip"] = "raise"
    """A file that is not UTF-8: stop, or count and skip."""
    min_tokens: int = Field(default=0, ge=0)
    """Shorter documents are left out of the mixture."""
    long: LongShare | None = None
    repeat: float = Field(default=1.0, gt=0)
    """The most times a document's tokens may be drawn."""


class FactsSource(_Source):
    kind: Literal["facts"]
    text: str
    """The `files` source whose training documents are the haystack."""
    facts: int = Field(default=8, ge=1)
    """The most facts in one document; the number is drawn evenly from 1 to this."""
    length: int | None = Field(default=None, gt=0)
    """Tokens of a document; None is the pack's length."""
    min_length: int | None = Field(default=None, gt=0)
    """Where set, lengths are drawn log-uniformly between this and `length`."""


class RepeatsSource(_Source):
    kind: Literal["repeats"]
    text: str
    """The `files` source whose training tokens are shuffled."""
    shortest: float = Field(default=0.125, gt=0, le=0.5)
    """Shortest period as a share of the row; periods are drawn between this and half of the row."""


SourceSpec = Annotated[FilesSource | FactsSource | RepeatsSource, Field(discriminator="kind")]


class DataSpec(_Section):
    sources: dict[str, SourceSpec] = Field(min_length=1)
    tokens: int | None = Field(default=None, gt=0)
    """Tokens of the plan without padding; None: the caller says (a stage's steps times its batch)."""
    store: str | None = None
    """Folder of the tokenised corpus and its plans; None is `data` in the run directory."""
    holdout: float = Field(default=0.03, ge=0, lt=1)
    """Share of documents, by a hash of their normalised content, that no training plan contains."""
    near_duplicates: float = Field(default=0.5, gt=0, le=1)
    """A document of whose long lines more than this share stood in earlier documents is dropped; 1 keeps
    all."""
    seed: int = Field(default=0, ge=0)
    """Draws the mixture and its order; the corpus and the held-out split do not depend on it."""

    @property
    def files(self) -> dict[str, FilesSource]:
        """The sources read from disk, in the recipe's order."""
        return {name: source for name, source in self.sources.items() if isinstance(source, FilesSource)}

    @model_validator(mode="after")
    def _weights_sum_to_one(self) -> DataSpec:
        total = sum(source.weight for source in self.sources.values())
        if abs(total - 1) > 1e-6:
            raise ValueError(
                f"sources: the weights must sum to 1, got {total:g}; restate them (0 leaves a source out)"
            )
        return self

    @model_validator(mode="after")
    def _texts_exist(self) -> DataSpec:
        for name, source in self.sources.items():
            text = getattr(source, "text", None)
            if text is not None and text not in self.files:
                known = ", ".join(self.files) or "none"
                raise ValueError(
                    f"sources.{name}.text: must name a files source, got {text!r}; there are: {known}"
                )
        return self

    @model_validator(mode="after")
    def _lengths_are_ordered(self) -> DataSpec:
        for name, source in self.sources.items():
            if isinstance(source, FactsSource) and source.length and (source.min_length or 0) > source.length:
                raise ValueError(
                    f"sources.{name}.min_length: must be at most length {source.length}, "
                    f"got {source.min_length}; lower it"
                )
        return self
