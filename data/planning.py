"""How does a mixture over a tokenised corpus become a plan's folder?"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from .corpus.store import Documents, DocumentWriter, fingerprint, whole_or_absent, write_manifest
from .encoding.encoder import Encoder
from .errors import DataError
from .mixing.made import facts, repeats, text_of
from .mixing.mixture import budgets, long_share, select
from .mixing.spec import Documents as Mixed
from .mixing.spec import FactsSource, RepeatsSource
from .packing.tables import tables
from .plan import PACKS, SEGMENTS
from .spec import DataSpec, reading_of


@dataclass(frozen=True, kw_only=True)
class _Chosen:
    """What one source gives to the plan, a row a copy."""

    rows: np.ndarray
    taken: np.ndarray
    lengths: np.ndarray
    """Tokens of the whole documents, which tell long from short."""
    dropped: dict[str, dict[str, int]] = field(default_factory=dict)


def mixing(spec: DataSpec) -> dict[str, Any]:
    """Give what of a data section decides a plan, given its corpus and its length."""
    sources = {
        name: source.model_dump(mode="json", exclude=set(reading_of(source)) if name in spec.read else None)
        for name, source in spec.sources.items()
    }
    return {"seed": spec.seed, "tokens": spec.tokens, "sources": sources}


def write_plan(spec: DataSpec, encoder: Encoder, corpus: dict[str, Any], length: int, target: Path) -> None:
    """Choose, pack and write; `corpus` is the manifest of the corpus two folders up."""
    with whole_or_absent(target) as partial:
        chosen, made = _choose(spec, encoder, target.parent.parent / "corpus", partial, length)
        rows, taken = (
            np.concatenate([getattr(own, name) for own in chosen.values()]) for name in ("rows", "taken")
        )
        scopes = [np.full(len(own.rows), spec.sources[name].groups == "pack") for name, own in chosen.items()]
        segments, packs = tables(rows, taken, np.concatenate(scopes), length, seed=spec.seed)
        np.save(partial / SEGMENTS, segments)
        np.save(partial / PACKS, packs)
        hashes = [hashlib.sha256(table.tobytes()).hexdigest() for table in (segments, packs)]
        report = {
            "length": length,
            "packs": len(packs),
            "tokens": int(taken.sum()),
            "padding": len(packs) * length - int(taken.sum()),
            "trained_tokens": int(packs["trained"].sum()),
            "sources": _shares(spec, chosen),
            "dropped": corpus["dropped"] | _dropped(chosen),
            "fingerprint": fingerprint([corpus["fingerprint"], made, length, *hashes]),
            "corpus_fingerprint": corpus["fingerprint"],
            "corpus": corpus["counts"],
        }
        shared = {key: report[key] for key in ("length", "fingerprint", "corpus_fingerprint")}
        write_manifest(
            partial, "plan", shared | {"separator": encoder.separator, "spec": mixing(spec), "report": report}
        )


def _choose(
    spec: DataSpec, encoder: Encoder, corpus: Path, partial: Path, length: int
) -> tuple[dict[str, _Chosen], str]:
    """Choose every source's documents, writing the procedural ones; also the hash of those."""
    documents = Documents(corpus / "train.arrow")
    names = documents.sources()
    rows = {name: np.flatnonzero(names == name) for name in spec.read}
    tokens = _budgets(spec)
    chosen = _select_files(spec, documents, rows, tokens)
    writer = DocumentWriter(partial / "made.arrow")
    try:
        for name, source in spec.sources.items():
            if isinstance(source, Mixed) or not tokens[name]:
                continue
            text = text_of(documents, rows[source.text], spec.seed)
            if not len(text):
                raise DataError(
                    f"data.sources.{name}.text: must have training documents, got none; check {source.text}"
                )
            first = len(documents) + writer.documents
            lengths = _make(
                source, text, encoder, writer, name=name, budget=tokens[name], length=length, seed=spec.seed
            )
            rest = {"residual": {"documents": 0, "tokens": tokens[name] - int(lengths.sum())}}
            made = first + np.arange(len(lengths))
            chosen[name] = _Chosen(rows=made, taken=lengths, lengths=lengths, dropped=rest)
        return chosen, writer.close()
    finally:
        writer.abandon()


def _budgets(spec: DataSpec) -> dict[str, int]:
    """Give the tokens asked of every source."""
    shares = budgets([source.weight for source in spec.sources.values()], spec.tokens or 0)
    return dict(zip(spec.sources, shares, strict=True))


def _select_files(
    spec: DataSpec, documents: Documents, rows: dict[str, np.ndarray], tokens: dict[str, int]
) -> dict[str, _Chosen]:
    """Choose of every source that is read from disk; all that is infeasible is said at once."""
    lengths, ids = documents.lengths(), documents.ids()
    chosen: dict[str, _Chosen] = {}
    problems: list[str] = []
    for name, source in spec.read.items():
        if not tokens[name]:
            continue
        own, short = _by_length(rows[name], lengths, source.min_tokens)
        names, where = [ids[row] for row in own], f"data.sources.{name}"
        try:
            drawn = select(lengths[own], names, source, budget=tokens[name], seed=spec.seed, where=where)
        except DataError as error:
            problems.append(str(error))
            continue
        picked = own[drawn.rows]
        dropped = {
            "min_tokens": _count(short, lengths),
            "not_selected": _count(np.setdiff1d(own, picked), lengths),
            "trimmed": {"documents": drawn.ends, "tokens": drawn.trimmed},
        }
        chosen[name] = _Chosen(rows=picked, taken=drawn.taken, lengths=lengths[picked], dropped=dropped)
    if problems:
        raise DataError("\n".join(problems))
    return chosen


def _by_length(rows: np.ndarray, lengths: np.ndarray, least: int) -> tuple[np.ndarray, np.ndarray]:
    """Give the rows of at least so many tokens, and the others."""
    enough = lengths[rows] >= least
    return rows[enough], rows[~enough]


def _count(rows: np.ndarray, lengths: np.ndarray) -> dict[str, int]:
    return {"documents": len(rows), "tokens": int(lengths[rows].sum())}


def _make(
    source: FactsSource | RepeatsSource,
    text: np.ndarray,
    encoder: Encoder,
    writer: DocumentWriter,
    *,
    name: str,
    budget: int,
    length: int,
    seed: int,
) -> np.ndarray:
    """Write a procedural source's documents; int64 tokens of each."""
    if isinstance(source, FactsSource):
        written = facts(source, text, encoder, name=name, budget=budget, length=length, seed=seed)
    else:
        written = repeats(source, text, name=name, budget=budget, length=length, seed=seed)
    lengths = []
    for number, tokens in enumerate(written):
        writer.add(tokens, source=name, id=f"{name}/{number}", bytes=0)
        lengths.append(len(tokens))
    return np.array(lengths, np.int64)


def _shares(spec: DataSpec, chosen: dict[str, _Chosen]) -> dict[str, Any]:
    """Give requested beside achieved tokens and shares of every source."""
    total = sum(int(own.taken.sum()) for own in chosen.values())
    asked = _budgets(spec)
    shares: dict[str, Any] = {}
    for name, source in spec.sources.items():
        own = chosen.get(name)
        tokens = int(own.taken.sum()) if own else 0
        requested: dict[str, float] = {
            "share": source.weight,
            "tokens": asked[name],
        }
        achieved: dict[str, float] = {
            "share": tokens / total,
            "tokens": tokens,
            "documents": len(own.rows) if own else 0,
        }
        if isinstance(source, Mixed) and source.long and own:
            requested["long_share"] = source.long.share
            achieved["long_share"] = long_share(own.lengths, own.taken, source.long.at_least)
        shares[name] = {"requested": requested, "achieved": achieved}
    return shares


def _dropped(chosen: dict[str, _Chosen]) -> dict[str, dict[str, int]]:
    """Sum what mixing left out over the sources, by reason."""
    total: dict[str, dict[str, int]] = {}
    for own in chosen.values():
        for reason, counts in own.dropped.items():
            kept = total.setdefault(reason, {"documents": 0, "tokens": 0})
            total[reason] = {key: kept[key] + counts[key] for key in kept}
    return {reason: counts for reason, counts in total.items() if counts["tokens"]}
