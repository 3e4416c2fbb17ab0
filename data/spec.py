"""What may stand in the `data:` section of a recipe?

A mixture is declared in tokens: shares of a total, per source, and per source the share that must come from
long documents. How a source is read is said in `sources/`, what the knobs of a transform or a scorer are in
the file of each.
"""

from __future__ import annotations

from functools import reduce
from operator import or_
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, create_model, model_validator

from .mixing import scorers as _scorers  # noqa: F401 so that a recipe may name them
from .mixing import transforms as _transforms  # noqa: F401
from .mixing.scorer import ScoreSection
from .mixing.transform import TransformSection
from .sources import SECTIONS, open_reader
from .sources.paths import missing_of
from .sources.source import Folder, Reading, Section


def _is_a_mark(word: str) -> str:
    if word not in ("", "bos", "eos") and not word.startswith("text:"):
        raise ValueError(
            f"must be empty, bos, eos or text:..., got {word!r}; write text:{word} for plain text"
        )
    return word


Mark = Annotated[str, AfterValidator(_is_a_mark)]


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
    """Cut documents to pieces of exactly this many tokens and leave the rest out: ProLong's long pools. The
    piece in which the source's budget ends is shorter (`short_pieces`)."""
    long: LongShare | None = None
    """The share that must come from long documents."""
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


class ReadSource(Selection, Reading):
    """A source that is read from disk, and mixed; a kind's own keys come with the section of its reader."""


def _mixed(kind: str, section: type[Reading]) -> type[ReadSource]:
    """Give what a recipe may say of one kind, as a class of this module, where pickle looks for it."""
    name = f"{kind.title()}Source"
    fields: dict[str, Any] = {"kind": (Literal[kind], ...)}
    globals()[name] = create_model(name, __base__=(ReadSource, section), __module__=__name__, **fields)
    return globals()[name]


READ_SOURCES = {kind: _mixed(kind, section) for kind, section in SECTIONS.items()}
"""One class for each kind in `sources/`."""
FilesSource = READ_SOURCES["files"]


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


SourceSpec = Annotated[
    reduce(or_, READ_SOURCES.values()) | PoolSource | FactsSource | RepeatsSource,
    Field(discriminator="kind"),
]


class DataSpec(Section):
    """Sources, how many tokens of them, and how they are packed."""

    sources: dict[str, SourceSpec] = Field(min_length=1)
    """By name, each with its kind: where documents come from, and their share of the mix."""
    mode: Literal["per-source", "global"] = "per-source"
    """Keep the sources' weights, or pool all documents and let `long` alone decide."""
    long: LongShare | None = None
    """The long share of all documents together; `mode: global` only."""
    repeat: float = Field(default=1.0, gt=0)
    """The most times a document's tokens may be drawn; `mode: global` only."""
    tokens: int | None = Field(default=None, gt=0)
    """Tokens of the plan without padding; None: the caller says (a stage's steps times its batch)."""
    length: int | None = Field(default=None, gt=0)
    """Tokens of a pack; None is the target length."""
    fit: Literal["best-fit", "concatenate"] = "best-fit"
    """Which pieces share a pack: whole documents where they fit, or all run together and cut."""
    opens: Mark = ""
    """What stands before each document: nothing, `bos`, `eos`, or any text as `text:...`."""
    closes: Mark = "eos"
    """What ends each document, in the same words."""
    engine: Literal["auto", "tiktoken", "tokenizers", "sentencepiece"] = "auto"
    """What tokenises; the ids are the same: `auto` takes tiktoken wherever its ids are seen to be."""
    store: Folder | None = None
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

    @property
    def mixed(self) -> dict[str, ReadSource | PoolSource]:
        """The sources whose documents are chosen, in the recipe's order."""
        return {name: source for name, source in self.sources.items() if isinstance(source, Selection)}

    @model_validator(mode="after")
    def _mode_has_its_keys(self) -> DataSpec:
        pooled = self.mode == "global"
        problems = [
            f"sources.{name}.{key}: must be left out with mode: global, got {value}; {cure}"
            for name, source in (self.mixed if pooled else {}).items()
            for key, value, unset, cure in (
                ("weight", source.weight, None, "shares come out as they are"),
                ("long", source.long and source.long.share, None, "say data.long"),
                ("repeat", source.repeat, 1.0, "say data.repeat"),
            )
            if value != unset
        ]
        problems += [
            f"sources.{name}.weight: must be a share of the tokens, got none; set it (0 leaves it out)"
            for name, source in self.sources.items()
            if source.weight is None and not (pooled and name in self.mixed)
        ]
        if self.long and not pooled:
            problems.append(f"long: must go with mode: global, got {self.mode}; say sources.NAME.long")
        if self.repeat != 1 and not pooled:
            problems.append(
                f"repeat: must go with mode: global, got {self.repeat:g}; say sources.NAME.repeat"
            )
        if problems:
            raise ValueError("\n".join(problems))
        if self.long:
            refuse_no_repeat(self.long, self.repeat)
        return self

    @model_validator(mode="after")
    def _weights_sum_to_one(self) -> DataSpec:
        total = sum(source.weight or 0 for source in self.sources.values())
        if self.mode == "global" and self.mixed:
            if total >= 1:
                raise ValueError(
                    f"sources: the weights must leave documents a share, got {total:g}; lower them"
                )
        elif abs(total - 1) > 1e-6:
            raise ValueError(
                f"sources: the weights must sum to 1, got {total:g}; restate them (0 leaves a source out)"
            )
        return self

    @model_validator(mode="after")
    def _pools_are_disjoint(self) -> DataSpec:
        of = {name: getattr(source, "of", name) for name, source in self.mixed.items()}
        problems = [
            f"sources.{name}.of: must name a source that is read, got {base!r}; "
            f"there are: {', '.join(self.read) or 'none'}"
            for name, base in of.items()
            if base not in self.read
        ]
        drawn = [(name, source) for name, source in self.mixed.items() if source.weight != 0]
        problems += [
            f"sources.{one}, sources.{other}: must not draw the same documents of {of[one]}, got lengths "
            f"from {max(a.shortest, b.shortest):,} tokens in both; part them by max_tokens and min_tokens"
            for at, (one, a) in enumerate(drawn)
            for other, b in drawn[at + 1 :]
            if of[one] == of[other]
            and max(a.shortest, b.shortest) <= min(a.max_tokens or float("inf"), b.max_tokens or float("inf"))
        ]
        if problems:
            raise ValueError("\n".join(problems))
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


def reading_of(source: ReadSource) -> dict[str, object]:
    """Give what of a source decides its tokens, in JSON values."""
    section = next(section for section in SECTIONS.values() if isinstance(source, section))
    return source.model_dump(mode="json", include={"kind", *section.model_fields})


def missing_paths(spec: DataSpec) -> list[str]:
    """Say of each path of a recipe that names nothing on this machine so, by its key; nothing is listed, and
    no server is asked."""
    return [
        problem
        for name, source in spec.read.items()
        for problem in missing_of(
            open_reader(source, where=f"data.sources.{name}").paths, f"data.sources.{name}"
        )
    ]


def refuse_no_repeat(long: LongShare, repeat: float) -> None:
    """Raise where long documents are to repeat and may not."""
    if long.by == "repeat-long" and repeat <= 1:
        raise ValueError(
            f"long.by: must be drop-short where nothing may repeat, got repeat-long with repeat {repeat:g}; "
            "raise repeat"
        )
