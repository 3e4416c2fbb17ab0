"""What may a recipe say of a source that is read from disk?

Each kind is one file beside this one; what all share stands in `Reading`. How documents are then mixed is
said in `data/mixing/spec.py`.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

DEFAULT_EXCLUDE = (
    "test", "tests", "_vendor", "vendor", "_vendored", "third_party", "site-packages", "idlelib", ".*",
)  # fmt: skip


class Section(BaseModel):
    """Refuse unknown keys and changes in every part of a data section."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Reading(Section):
    """Where documents lie and what to do with bad ones."""

    paths: tuple[str, ...] = Field(min_length=1)
    """Folders, files, globs or fsspec URLs."""
    licence: str | None = None
    """A note that the manifest keeps."""
    on_error: Literal["raise", "skip"] = "raise"
    """A document that cannot be read: stop, or count and skip."""


class FilesReading(Reading):
    """One text file is one document, or one repository of them."""

    kind: Literal["files"]
    paths: tuple[str, ...] = Field(min_length=1)
    """Folders, files, globs or fsspec URLs; `python:stdlib` is the running interpreter's library,
    `python:NAME` an installed package."""
    suffixes: tuple[str, ...] = (".py", ".txt", ".md", ".rst")
    """File names taken from folders; globs and single files are taken as they are."""
    exclude: tuple[str, ...] = DEFAULT_EXCLUDE
    """Globs over the path below the folder, whole or any one part of it."""
    per: Literal["file", "repository"] = "file"
    """What is one document; a repository is a folder directly below a path, its files in sorted order."""


class JsonlReading(Reading):
    """One line is one document: plain, gzip or zstd JSON lines."""

    kind: Literal["jsonl"]
    text: str = "text"
    """Field of the text; dots go into nested objects."""
    id: str | None = None
    """Field of the id; None numbers the lines."""


class ParquetReading(Reading):
    """One row is one document."""

    kind: Literal["parquet"]
    text: str = "text"
    id: str | None = None


class DatasetReading(Reading):
    """A Hugging Face dataset saved to disk (`save_to_disk`), one row a document."""

    kind: Literal["dataset"]
    split: str | None = None
    """Of a DatasetDict."""
    text: str = "text"
    id: str | None = None


class TokenReading(Reading):
    """Tokens somebody made before."""

    tokenizer: str
    """Folder of the tokenizer that made them; it must be the model's."""


class MdsReading(TokenReading):
    """MosaicML streaming shards of tokens, as ProLong published them."""

    kind: Literal["mds"]
    tokens: str = "input_ids"
    """Column of the tokens."""
    spans: str | None = "indices"
    """Column of (start, stop) of the documents inside a record; None: the record is one document."""
    dtype: Literal["uint16", "int32", "uint32", "int64"] | None = None
    """Of a tokens column that is plain bytes; other columns tell it themselves."""


class MegatronReading(TokenReading):
    """Megatron's `.bin` and `.idx`; a path names either, or what both begin with."""

    kind: Literal["megatron"]


class DatatroveReading(TokenReading):
    """datatrove's `.ds` with `.ds.index`."""

    kind: Literal["datatrove"]


ReadingSpec = Annotated[
    FilesReading
    | JsonlReading
    | ParquetReading
    | DatasetReading
    | MdsReading
    | MegatronReading
    | DatatroveReading,
    Field(discriminator="kind"),
]
