"""How does a mixture over a tokenised corpus become a plan's folder?"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from .corpus.manifest import file_hash, fingerprint, whole_or_absent, write_manifest
from .corpus.parts import PartWriter
from .corpus.store import Documents, open_documents
from .encoding.encoder import Encoder
from .mixing.choose import Chosen, choose
from .mixing.scores import Scores
from .packing.items import Scope
from .packing.tables import tables
from .plan import MADE, PACKS, SEGMENTS, corpus_facts
from .spec import DataSpec, SourceSpec, reading_of


def mixing(spec: DataSpec) -> dict[str, Any]:
    """Give what of a data section decides a plan, given its corpus and its length."""
    sources = {
        name: source.model_dump(mode="json", exclude=set(reading_of(read)) if read else None)
        for name, source in spec.sources.items()
        for read in [spec.read.get(name)]
    }
    shared = spec.model_dump(mode="json", include={"seed", "tokens", "mode", "long", "repeat", "fit"})
    return {**shared, "sources": sources}


def scope_of(source: SourceSpec) -> Scope:
    """Give the attention scope and the positions of a source's documents."""
    follows = "reset" if source.groups == "document" else "continuous"
    return Scope(groups=source.groups, positions=source.positions or follows, skip_chunks=source.skip_chunks)


def write_plan(
    spec: DataSpec,
    encoder: Encoder,
    corpus: dict[str, Any],
    target: Path,
    *,
    length: int,
    reach: int,
    documents: Documents | None = None,
) -> None:
    """Choose, pack and write for packs of `length` tokens, with positions below `reach` where they skip
    ahead; `corpus` is the manifest of the corpus two folders up, `documents` its training split or a part."""
    with whole_or_absent(target) as partial:
        store = target.parent.parent
        documents = documents or open_documents(store, split="train")
        scores = Scores(folder=store / "scores", corpus=corpus["fingerprint"])
        chosen, made = _choose(spec, encoder, documents, scores, partial / MADE, length)
        parts = [(own.items, scope_of(spec.sources[name])) for name, own in chosen.items()]
        segments, packs = tables(parts, length, reach=reach, fit=spec.fit, seed=spec.seed)
        np.save(partial / SEGMENTS, segments)
        np.save(partial / PACKS, packs)
        hashes = [hashlib.sha256(table.tobytes()).hexdigest() for table in (segments, packs)]
        tokens = int(packs["filled"].sum())
        report = {
            "length": length,
            "packs": len(packs),
            "tokens": tokens,
            "padding": len(packs) * length - tokens,
            "trained_tokens": int(packs["trained"].sum()),
            "sources": {
                name: {"requested": own.requested, "achieved": own.achieved, "dropped": own.dropped}
                for name, own in chosen.items()
            },
            "dropped": corpus["dropped"] | _dropped(chosen),
            "fingerprint": fingerprint([corpus["fingerprint"], made, length, *hashes]),
            "corpus_fingerprint": corpus["fingerprint"],
            "corpus": corpus["counts"],
        }
        files = {name: file_hash(partial / name) for name in (SEGMENTS, PACKS, MADE)}
        shared = {key: report[key] for key in ("length", "fingerprint", "corpus_fingerprint")}
        about = {"reach": reach, "spec": mixing(spec), "corpus": corpus_facts(corpus)}
        own = {"padding": encoder.padding, "files": files, "report": report}
        write_manifest(partial, "plan", shared | about | own)


def _choose(
    spec: DataSpec, encoder: Encoder, documents: Documents, scores: Scores, target: Path, length: int
) -> tuple[dict[str, Chosen], str]:
    """Choose every source's documents, writing the made ones; also the hash of those."""
    writer = PartWriter(target)
    try:
        chosen = choose(spec, encoder, documents, writer, length=length, scores=scores)
        return chosen, writer.close()
    finally:
        writer.abandon()


def _dropped(chosen: dict[str, Chosen]) -> dict[str, dict[str, int]]:
    """Sum what mixing left out over the sources, by reason."""
    total: dict[str, dict[str, int]] = {}
    for own in chosen.values():
        for reason, counts in own.dropped.items():
            kept = total.setdefault(reason, {"documents": 0, "tokens": 0})
            total[reason] = {key: kept[key] + counts[key] for key in kept}
    return total
