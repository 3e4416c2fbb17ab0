"""What does a folder of text hold? Its kind, by asking every source; its tokens and lengths, by a sample."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ....data import DataError, DataSpec, load_encoder, sampled
from ....data.corpus.store import Documents
from ....data.sources import SECTIONS, open_reader
from ....data.sources.source import TokenReading
from ...language.errors import RecipeError

NAME = "text"
"""The source's name in the recipe."""


@dataclass(frozen=True, kw_only=True)
class Text:
    """What was found, estimated where it was too much to read."""

    source: Mapping[str, Any]
    """The recipe's section of it."""
    about: str
    train: np.ndarray
    heldout: np.ndarray
    """Tokens of each document that was read, by split."""
    share: float
    """Of all text, what was read."""
    holdout: float
    skipped: Mapping[str, int]
    """Documents that cannot be read, by reason."""

    def tokens(self, at_least: int = 0) -> int:
        """Count the tokens to train on in documents of at least so many."""
        return int(self.train[self.train >= at_least].sum() / self.share)

    def heldout_documents(self, at_least: int) -> int:
        """Count those that were met, and so are there, however many more there may be."""
        return int((self.heldout >= at_least).sum())

    def documents(self, at_least: int) -> int:
        """Count those of both splits that were met."""
        return self.heldout_documents(at_least) + int((self.train >= at_least).sum())

    def heldout_tokens(self) -> int:
        return int(self.heldout.sum())


def read_text(folder: str, field: str | None, *, tokenizer: Path, holdout: float) -> Text:
    """Find the kind of a folder's text and read a sample of it with the model's tokenizer.

    Documents that cannot be read are skipped, as the recipe then says; where none are left, the first of
    them is the error.
    """
    source, about = source_of(folder, field, tokenizer)
    try:
        try:
            text = _sample({**source, "on_error": "skip"}, about, tokenizer, holdout)
        except DataError:
            text = _sample(source, about, tokenizer, holdout)
    except DataError as error:
        told = str(error.__cause__ if isinstance(error.__cause__, DataError) else error)
        key = f"data.sources.{NAME}.text"
        if "text" in SECTIONS[source["kind"]].model_fields:
            told = told.replace(key, "--text-field").replace("name another field", "say --text-field NAME")
        raise RecipeError(told) from error
    return text if text.skipped else replace(text, source=source)


def _sample(source: Mapping[str, Any], about: str, tokenizer: Path, holdout: float) -> Text:
    data = DataSpec.model_validate({"holdout": holdout, "sources": {NAME: {**source, "weight": 1.0}}})
    with sampled(data, load_encoder(tokenizer, opens=data.opens, closes=data.closes)) as sample:
        train, heldout = (
            Documents(sample.folder / "corpus", split).lengths().copy() for split in ("train", "heldout")
        )
        share, dropped = sample.shares[NAME], sample.sources[NAME].dropped
    skipped = {why: lost["documents"] for why, lost in dropped.items() if why != "empty"}
    return Text(
        source=source,
        about=about,
        train=train,
        heldout=heldout,
        share=share,
        holdout=holdout,
        skipped=skipped,
    )


def source_of(folder: str, field: str | None, tokenizer: Path) -> tuple[dict[str, Any], str]:
    """Give the section of the kind that most of a folder's bytes are, and say what was found."""
    if "://" not in folder and not Path(folder).expanduser().is_dir():
        raise RecipeError(f"--text: must be a folder, got {folder}; name the folder that the text lies in")
    found = sorted(_kinds(folder, tokenizer), key=lambda kind: -kind[2])
    if not found:
        raise RecipeError(
            f"--text: must hold what one of {', '.join(sorted(SECTIONS))} reads, got {folder} without any; "
            "see docs/data.md, or leave --text out and write data.sources by hand"
        )
    source, inputs, size = found[0]
    if field is not None and "text" in SECTIONS[source["kind"]].model_fields:
        source["text"] = field
    also = "".join(f"; {count:,} inputs of kind {one['kind']} lie there too" for one, count, _ in found[1:])
    return source, f"{inputs:,} inputs of kind {source['kind']}, {size / 1e6:,.1f} MB{also}"


def _kinds(folder: str, tokenizer: Path) -> Iterator[tuple[dict[str, Any], int, int]]:
    """Give a section of each kind that finds something in a folder, with its inputs and their bytes."""
    for kind, section in SECTIONS.items():
        more: dict[str, Any] = {"tokenizer": str(tokenizer)} if issubclass(section, TokenReading) else {}
        for split in [{}, {"split": "train"}] if "split" in section.model_fields else [{}]:
            with suppress(DataError):  # it is of another kind
                source = {"paths": [folder], **more, **split}
                inputs = open_reader(section.model_validate(source), where="--text").inputs()
                yield {"kind": kind, **source}, len(inputs), sum(input.size for input in inputs)
