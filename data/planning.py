"""How does a mixture over a tokenised corpus become a plan's folder?"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from .corpus.manifest import fingerprint, whole_or_absent, write_manifest
from .corpus.parts import PartWriter
from .corpus.store import open_documents
from .encoding.encoder import Encoder
from .mixing.choose import Chosen, choose
from .mixing.scores import Scores
from .packing.tables import tables
from .plan import PACKS, SEGMENTS
from .spec import DataSpec, reading_of


def mixing(spec: DataSpec) -> dict[str, Any]:
    """Give what of a data section decides a plan, given its corpus and its length."""
    sources = {
        name: source.model_dump(mode="json", exclude=set(reading_of(read)) if read else None)
        for name, source in spec.sources.items()
        for read in [spec.read.get(name)]
    }
    shared = spec.model_dump(mode="json", include={"seed", "tokens", "mode", "long", "repeat"})
    return {**shared, "sources": sources}


def write_plan(spec: DataSpec, encoder: Encoder, corpus: dict[str, Any], length: int, target: Path) -> None:
    """Choose, pack and write; `corpus` is the manifest of the corpus two folders up."""
    with whole_or_absent(target) as partial:
        chosen, made = _choose(spec, encoder, corpus, target.parent.parent, partial, length)
        rows, taken = (
            np.concatenate([getattr(own.items, key) for own in chosen.values()]) for key in ("row", "length")
        )
        scopes = [
            np.full(len(own.items.row), spec.sources[name].groups == "pack") for name, own in chosen.items()
        ]
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
            "sources": {
                name: {"requested": own.requested, "achieved": own.achieved} for name, own in chosen.items()
            },
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
    spec: DataSpec, encoder: Encoder, corpus: dict[str, Any], store: Path, partial: Path, length: int
) -> tuple[dict[str, Chosen], str]:
    """Choose every source's documents, writing the made ones; also the hash of those."""
    writer = PartWriter(partial / "made.arrow")
    try:
        scores = Scores(folder=store / "scores", corpus=corpus["fingerprint"])
        documents = open_documents(store, split="train")
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
