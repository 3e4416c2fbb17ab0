"""What does each source give to a plan? Documents chosen to the token, then made into others or made anew."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from ..corpus.store import Documents, PartWriter, Row
from ..counts import Counts
from ..encoding.encoder import Encoder
from ..errors import DataError
from ..packing.tables import Items
from ..spec import DataSpec, LongShare, Selection
from .candidates import Candidates, candidates, counted, refuse_long_pieces
from .mixture import Drawn, Supply, budgets, largest, long_share, select
from .scorer import Scores
from .synthetic import made
from .transforming import transformed

NOTHING = np.zeros(0, np.int64)
EVERY = ""
"""Stands for all sources whose documents are pooled."""


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """What one source gives to the plan."""

    items: Items
    lengths: np.ndarray
    """int64 tokens of each item."""
    requested: dict[str, float | None]
    """`share`, `tokens`, and `long_share` where it is asked for; None what the recipe leaves open."""
    achieved: dict[str, float]
    """`share`, `tokens`, `documents`; `long_share` of the documents that were drawn; `short_pieces`, cut off
    where the budget ends, of those that have a `document_length`."""
    dropped: Counts
    """By reason, what of the source is not in the plan: documents, tokens."""


def choose(spec: DataSpec, scores: Scores, writer: PartWriter, *, length: int) -> dict[str, Chosen]:
    """Choose for packs of `length` tokens, in the recipe's order; `spec.tokens` is set.

    Made documents and inserted tokens go to `writer`, which is empty; their rows count on after those of
    the training split, which `scores` holds. One DataError names all sources that cannot give what is asked.
    """
    asked, problems = asked_of(spec), list[str]()
    documents, encoder = scores.documents, scores.encoder
    offers: dict[str, Candidates] = {}
    for name, source in spec.mixed.items():
        if source.weight != 0:
            with _collected(problems):
                refuse_long_pieces(name, source, length)
                offers[name] = candidates(name, source, scores)
    problems += unmet(spec, supplies(spec, offers))
    written = begun(spec, documents, encoder, length=length, problems=problems)
    if problems:
        raise DataError("\n".join(problems))
    drawn = draw_from(spec, offers, asked_together(spec))
    parts: dict[str, tuple[Items, Counts]] = {}
    for name, source in spec.sources.items():
        if name in written:
            parts[name] = _write(name, written[name], len(documents), writer, asked[name] or 0)
        elif name in drawn and isinstance(source, Selection):
            items, pushed_out = transformed(
                name, source, offers[name], drawn[name], documents, encoder, writer, seed=spec.seed
            )
            parts[name] = (
                items,
                Counts.total([offers[name].dropped, left_out(offers[name], drawn[name]), pushed_out]),
            )
        else:
            parts[name] = Items.whole(NOTHING, NOTHING), Counts()
    return _reported(spec, parts, asked, offers, drawn)


def begun(
    spec: DataSpec, documents: Documents, encoder: Encoder, *, length: int, problems: list[str]
) -> dict[str, Iterator[np.ndarray]]:
    """Begin the documents of each procedural source; `problems` gets why there can be none."""
    written: dict[str, Iterator[np.ndarray]] = {}
    for name, budget in asked_of(spec).items():
        if budget and name not in spec.mixed:
            with _collected(problems):
                written[name] = made(spec, name, documents, encoder, budget=budget, length=length)
    return written


def asked_of(spec: DataSpec) -> dict[str, int | None]:
    """Give the tokens asked of every source; None where documents are pooled."""
    assert spec.tokens is not None
    weights = [source.weight or 0.0 for source in spec.sources.values()]
    left = [1 - sum(weights)] if spec.mode == "global" else []
    shares = dict(zip(spec.sources, budgets([*weights, *left], spec.tokens), strict=False))
    return {name: None if spec.mode == "global" and name in spec.mixed else shares[name] for name in shares}


def draw_from(spec: DataSpec, offers: dict[str, Candidates], asked: Mapping[str, int]) -> dict[str, Drawn]:
    """Draw so many tokens from each source by itself, or from all together."""
    if spec.mode == "global":
        return _drawn_together(spec, offers, asked[EVERY])
    drawn: dict[str, Drawn] = {}
    for name, offer in offers.items():
        source = spec.mixed[name]
        drawn[name] = select(
            offer.length,
            offer.key,
            budget=asked[name],
            long=source.long,
            repeat=source.repeat,
            seed=spec.seed,
            where=f"data.sources.{name}",
        )
    return drawn


def supplies(spec: DataSpec, offers: Mapping[str, Candidates]) -> dict[str, Supply]:
    """Count what each source can give, or all together (EVERY)."""
    if spec.mode == "global":
        lengths = np.concatenate([NOTHING, *(offer.length for offer in offers.values())])
        return {EVERY: Supply.of(lengths, spec.long, spec.repeat)} if offers else {}
    read = {name: spec.mixed[name] for name in offers}
    return {name: Supply.of(offers[name].length, read[name].long, read[name].repeat) for name in offers}


def asked_together(spec: DataSpec) -> dict[str, int]:
    """Give the tokens asked of every source, and of all that are pooled (EVERY)."""
    asked = {name: tokens or 0 for name, tokens in asked_of(spec).items()}
    if spec.mode != "global":
        return asked
    return {**asked, EVERY: (spec.tokens or 0) - sum(asked.values())}


def unmet(
    spec: DataSpec, supplies: Mapping[str, Supply], estimated: Mapping[str, str] = MappingProxyType({})
) -> list[str]:
    """Say what cannot be met, and the largest budget at which all can; `estimated` says of which supplies
    and from what."""

    def problems(tokens: int) -> list[str]:
        asked = asked_together(spec.model_copy(update={"tokens": tokens}))
        found = {
            name: supply.problem(asked[name], "data" if spec.mode == "global" else f"data.sources.{name}")
            for name, supply in supplies.items()
        }
        return [f"{estimated.get(name, '')}{problem}" for name, problem in found.items() if problem]

    assert spec.tokens is not None
    if not (wrong := problems(spec.tokens)):
        return []
    lacking = any(supply.is_lacking for supply in supplies.values())
    most = 0 if lacking else largest(spec.tokens, lambda tokens: not problems(tokens))
    least = f"the largest that its text can give as it stands is {most:,}" if most else "it can give none"
    told = "estimated: " if estimated else ""
    got = f"{spec.tokens:,} (where it is not set, steps x batch_tokens)"
    return [*wrong, f"{told}data.tokens: must be what all of the mix can give, got {got}; {least}"]


def _drawn_together(spec: DataSpec, offers: dict[str, Candidates], budget: int) -> dict[str, Drawn]:
    lengths = np.concatenate([NOTHING, *(offer.length for offer in offers.values())])
    keys = np.concatenate([NOTHING.astype(np.uint64), *(offer.key for offer in offers.values())])
    drawn = select(
        lengths, keys, budget=budget, long=spec.long, repeat=spec.repeat, seed=spec.seed, where="data"
    )
    ends = np.cumsum([0, *(len(offer.row) for offer in offers.values())])
    whose = np.searchsorted(ends, drawn.index, side="right") - 1
    return {name: drawn.only(whose == at, int(ends[at])) for at, name in enumerate(offers)}


def left_out(offer: Candidates, drawn: Drawn) -> Counts:
    """Count what may be drawn and is in no copy of the plan."""
    most = np.zeros(len(offer.row), np.int64)  # of a document that is drawn again, the copy that has most
    np.maximum.at(most, drawn.index, drawn.taken)
    trimmed = (offer.length - most)[most > 0]
    return Counts(not_selected=counted(offer.length[most == 0]), trimmed=counted(trimmed[trimmed > 0]))


def _write(
    name: str, written: Iterator[np.ndarray], corpus: int, writer: PartWriter, budget: int
) -> tuple[Items, Counts]:
    """Write a procedural source's documents."""
    first = corpus + writer.documents
    lengths = []
    for number, tokens in enumerate(written):
        writer.add(Row(tokens=tokens, source=name, id=f"{name}/{number}"))
        lengths.append(len(tokens))
    items = Items.whole(first + np.arange(len(lengths)), np.array(lengths, np.int64))
    return items, Counts(residual={"documents": 0, "tokens": budget - sum(lengths)})


def _reported(
    spec: DataSpec,
    parts: dict[str, tuple[Items, Counts]],
    asked: dict[str, int | None],
    offers: dict[str, Candidates],
    drawn: dict[str, Drawn],
) -> dict[str, Chosen]:
    """Put what was asked beside what came out."""
    total = sum(int(items.length.sum()) for items, _ in parts.values())
    chosen: dict[str, Chosen] = {}
    for name, (items, dropped) in parts.items():
        lengths, source = items.lengths(), spec.sources[name]
        tokens, long = int(lengths.sum()), _long(spec, name)
        requested: dict[str, float | None] = {"share": source.weight, "tokens": asked[name]}
        achieved = {"share": tokens / max(total, 1), "tokens": tokens, "documents": len(lengths)}
        if long and name in drawn:
            requested["long_share"] = None if spec.mode == "global" else long.share
            whole = offers[name].length[drawn[name].index]
            achieved["long_share"] = long_share(whole, drawn[name].taken, long.at_least)
        if name in drawn and (length := spec.mixed[name].document_length):
            achieved["short_pieces"] = int((drawn[name].taken < length).sum())
        left = dropped.having("tokens")
        chosen[name] = Chosen(
            items=items, lengths=lengths, requested=requested, achieved=achieved, dropped=left
        )
    return chosen


def _long(spec: DataSpec, name: str) -> LongShare | None:
    return spec.mixed[name].long or spec.long if name in spec.mixed else None


@contextmanager
def _collected(problems: list[str]) -> Iterator[None]:
    """Keep what is wrong, to say it with the rest."""
    try:
        yield
    except DataError as error:
        problems.append(str(error))
