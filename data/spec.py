"""What may stand in the `data:` section of a recipe?

How a source is read is said in `sources/spec.py`, how it is mixed in `mixing/spec.py`; both meet here.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from .mixing.spec import Documents, FactsSource, LongShare, PoolSource, RepeatsSource
from .sources.spec import (
    DatasetReading,
    DatatroveReading,
    FilesReading,
    JsonlReading,
    MdsReading,
    MegatronReading,
    ParquetReading,
    Reading,
    Section,
)


class FilesSource(Documents, FilesReading):
    """Text files, mixed."""


class JsonlSource(Documents, JsonlReading):
    """JSON lines, mixed."""


class ParquetSource(Documents, ParquetReading):
    """Parquet rows, mixed."""


class DatasetSource(Documents, DatasetReading):
    """A saved Hugging Face dataset, mixed."""


class MdsSource(Documents, MdsReading):
    """MDS records, mixed."""


class MegatronSource(Documents, MegatronReading):
    """Megatron documents, mixed."""


class DatatroveSource(Documents, DatatroveReading):
    """datatrove documents, mixed."""


ReadSource = (
    FilesSource | JsonlSource | ParquetSource | DatasetSource | MdsSource | MegatronSource | DatatroveSource
)
SourceSpec = Annotated[ReadSource | PoolSource | FactsSource | RepeatsSource, Field(discriminator="kind")]


class DataSpec(Section):
    """Sources, how many tokens of them, and how they are packed."""

    sources: dict[str, SourceSpec] = Field(min_length=1)
    mode: Literal["per-source", "global"] = "per-source"
    """Keep the sources' weights, or pool all documents and let `long` alone decide."""
    long: LongShare | None = None
    """The long share of the whole pool; `mode: global` only."""
    tokens: int | None = Field(default=None, gt=0)
    """Tokens of the plan without padding; None: the caller says (a stage's steps times its batch)."""
    length: int | None = Field(default=None, gt=0)
    """Tokens of a pack; None is the target length."""
    fit: Literal["best-fit", "concatenate"] = "best-fit"
    """Which pieces share a pack: whole documents where they fit, or all run together and cut."""
    opens: str = ""
    """What stands before each document: nothing, `bos`, `eos`, or any text as `text:...`."""
    closes: str = "eos"
    """What ends each document, in the same words."""
    store: str | None = None
    """Folder of the tokenised corpus and its plans; None is `data` in the run directory."""
    part_bytes: int = Field(default=64_000_000, gt=0)
    """Raw bytes that one file of the store is made of: what a killed run does again."""
    holdout: float = Field(default=0.03, ge=0, lt=1)
    """Share of documents, by a hash of their normalised content, that no training plan contains."""
    near_duplicates: float = Field(default=1.0, gt=0, le=1)
    """A document of whose long lines more than this share stood in earlier documents is dropped; 1 keeps
    all. Their hashes are held in memory: for corpora of gigabytes."""
    seed: int = Field(default=0, ge=0)
    """Draws the mixture and its order; the corpus and the held-out split do not depend on it."""

    @property
    def read(self) -> dict[str, ReadSource]:
        """The sources read from disk, in the recipe's order."""
        return {name: source for name, source in self.sources.items() if isinstance(source, Reading)}

    @model_validator(mode="after")
    def _weights_sum_to_one(self) -> DataSpec:
        total = sum(source.weight or 0 for source in self.sources.values())
        if abs(total - 1) > 1e-6:
            raise ValueError(
                f"sources: the weights must sum to 1, got {total:g}; restate them (0 leaves a source out)"
            )
        return self

    @model_validator(mode="after")
    def _texts_exist(self) -> DataSpec:
        for name, source in self.sources.items():
            text = getattr(source, "text", None) if isinstance(source, FactsSource | RepeatsSource) else None
            if text is not None and text not in self.read:
                known = ", ".join(self.read) or "none"
                raise ValueError(
                    f"sources.{name}.text: must name a source that is read, got {text!r}; there are: {known}"
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


def reading_of(source: Reading) -> dict[str, object]:
    """Give what of a source decides its tokens, in JSON values."""
    kind = next(
        cls for cls in type(source).__mro__ if issubclass(cls, Reading) and not issubclass(cls, Documents)
    )
    return source.model_dump(mode="json", include=set(kind.model_fields))
