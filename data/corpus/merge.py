"""How do the files of all units become a corpus: two indices and a manifest?

Canonical order decides what a duplicate is: a later document goes where an earlier one had its id, or most of
its long lines. Files are gone through one by one; held are 8 bytes of each id, and the hashes of long lines
where near-duplicates are looked for.
"""

from __future__ import annotations

import hashlib
import json
import platform
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from ..errors import DataError, room_to_write
from .manifest import file_hash, fingerprint, put_in_place, read_manifest, write_manifest
from .parts import FACTS, Part
from .store import INDEX, SPLITS
from .work import CLAIM, INPUTS, Work

LIBRARIES = ("tokenizers", "tiktoken", "sentencepiece", "pyarrow", "numpy")


@dataclass(kw_only=True)
class _Seen:
    """What is known of the documents met so far."""

    near_duplicates: float
    repeated: dict[str, set[int]]
    """By source: hashes of ids that occur more than once."""
    ids: dict[tuple[str, str], str] = field(default_factory=dict)
    lines: set[int] = field(default_factory=set)
    dropped: dict[str, Counter[str]] = field(default_factory=dict)
    counts: dict[str, Counter[str]] = field(default_factory=lambda: {split: Counter() for split in SPLITS})
    histogram: dict[str, Counter[int]] = field(default_factory=dict)
    begun: tuple[int, int] = (0, 0)
    """Part and row in which the document that is open begins."""


def merge(work: Work, folder: Path) -> dict[str, Any]:
    """Check that every unit is there, index its documents, and give the folder its name; the manifest."""
    records = work.records()
    parts = [part for record in records for part in record["parts"]]
    opened = [Part(work.parts / part["name"]) for part in parts]
    sources = [job.source for job, record in zip(work.jobs, records, strict=True) for _ in record["parts"]]
    seen = _Seen(near_duplicates=work.spec.near_duplicates, repeated=_repeated(opened, sources))
    for record in records:
        for reason, counts in record["dropped"].items():
            seen.dropped.setdefault(reason, Counter()).update(counts)
    with room_to_write(work.folder):
        hashes = _write_indices(work, opened, seen)
        if not seen.counts["train"]["documents"]:
            raise DataError(_nothing_to_train(work, seen))
        inputs = _write_inputs(work, records)
        manifest = {
            "fingerprint": fingerprint([[part["sha256"] for part in parts], hashes]),
            "identity": work.identity,
            "inputs": inputs,
            "parts": [part["name"] for part in parts],
            "files": {f"parts/{part['name']}": part["file"] for part in parts}
            | {f"{split}.arrow": digest for split, digest in hashes.items()}
            | {INPUTS: file_hash(work.folder / INPUTS)},
            "counts": {split: dict(counts) for split, counts in seen.counts.items()},
            "dropped": {reason: dict(counts) for reason, counts in seen.dropped.items()},
            "lengths": {
                source: {str(start): bins[start] for start in sorted(bins)}
                for source, bins in seen.histogram.items()
            },
            "sources": {name: source.model_dump(mode="json") for name, source in work.spec.read.items()},
            "opens": work.encoder.opens.tolist(),
            "closes": work.encoder.closes.tolist(),
            "padding": work.encoder.padding,
            "engine": work.encoder.engine,
            "versions": {"python": platform.python_version(), **_versions()},
        }
        write_manifest(work.folder, "corpus", manifest)
        put_in_place(work.folder, folder)
    _tidy(folder)
    return read_manifest(folder, "corpus")


def _repeated(opened: Sequence[Part], sources: Sequence[str]) -> dict[str, set[int]]:
    """Find the hashes of ids that stand more than once in a source."""
    keys: dict[str, list[np.ndarray]] = {}
    for part, source in zip(opened, sources, strict=True):
        keys.setdefault(source, []).append(part.table.column("key").drop_null().to_numpy())
    found = {}
    for source, own in keys.items():
        values, counts = np.unique(np.concatenate(own), return_counts=True)
        found[source] = set(values[counts > 1].tolist())
    return found


def _write_indices(work: Work, opened: Sequence[Part], seen: _Seen) -> dict[str, str]:
    """Write both splits' indices; the sha256 of each."""
    paths = {split: work.folder / f"{split}.arrow" for split in SPLITS}
    sinks = {split: pa.OSFile(str(path), "wb") for split, path in paths.items()}
    files = {split: pa.ipc.new_file(sink, INDEX) for split, sink in sinks.items()}
    try:
        for number, part in enumerate(opened):
            for split, batch in _index(work, number, part, seen):
                if batch.num_rows:
                    files[split].write_batch(batch)
    finally:
        for file in [*files.values(), *sinks.values()]:
            with suppress(OSError):
                file.close()
    return {split: file_hash(path) for split, path in paths.items()}


def _index(work: Work, number: int, part: Part, seen: _Seen) -> Iterator[tuple[str, pa.RecordBatch]]:
    """Give the index rows of the documents that end in a part, by split."""
    table = part.table.select(FACTS)
    starts, lengths = table.column("start").to_numpy(), part.lengths()
    last = np.flatnonzero(table.column("last").to_numpy())
    begins = np.flatnonzero(starts == 0)
    own = np.searchsorted(begins, last, side="right") - 1
    begun = [(number, int(begins[i])) if i >= 0 else seen.begun for i in own.tolist()]
    if len(begins):
        seen.begun = number, int(begins[-1])
    documents = table.take(pa.array(last)) if len(last) else table.slice(0, 0)
    tokens = starts[last] + lengths[last]
    kept = _kept(work, documents, part.table.column("lines"), last, seen)
    heldout = documents.column("heldout").to_numpy(zero_copy_only=False).astype(bool)
    _count(documents, tokens, kept, heldout, seen)
    places = {"part": [p for p, _ in begun], "row": [r for _, r in begun], "length": tokens}
    for split in SPLITS:
        rows = np.flatnonzero(kept & (heldout == (split == "heldout")))
        columns = []
        for column in INDEX:
            if column.name in places:
                values = pa.array(np.asarray(places[column.name], np.int64)[rows]).cast(column.type)
            else:
                values = documents.column(column.name).combine_chunks().take(pa.array(rows))
            columns.append(values)
        yield split, pa.RecordBatch.from_arrays(columns, schema=INDEX)


def _kept(
    work: Work, documents: pa.Table, lines: pa.ChunkedArray, last: np.ndarray, seen: _Seen
) -> np.ndarray:
    """Say of each document whether it stays: neither empty nor a duplicate of an earlier one."""
    empty = documents.column("empty").to_numpy(zero_copy_only=False).astype(bool)
    kept = ~empty
    sizes = documents.column("bytes").to_numpy()
    for row in np.flatnonzero(_repeats(documents, seen) & kept).tolist():
        if _is_repeated(work, documents.slice(row, 1).to_pylist()[0], seen):
            kept[row] = False
            _drop(seen, "duplicate_id", int(sizes[row]))
    if seen.near_duplicates < 1:
        for row in np.flatnonzero(kept).tolist():
            own = set(lines[int(last[row])].as_py() or ())
            if own and len(own & seen.lines) > seen.near_duplicates * len(own):
                kept[row] = False
                _drop(seen, "near_duplicate", int(sizes[row]))
            else:
                seen.lines |= own
    return kept


def _repeats(documents: pa.Table, seen: _Seen) -> np.ndarray:
    """Say of each document whether its id's hash occurs more than once in its source."""
    keys = documents.column("key").to_numpy()
    sources = set(documents.column("source").to_pylist()) if len(documents) else set()
    suspects = {key for source in sources for key in seen.repeated[source]}
    return np.isin(keys, np.array(sorted(suspects), np.uint64))


def _is_repeated(work: Work, document: dict[str, Any], seen: _Seen) -> bool:
    """Say whether an earlier document had this id; a DataError unless the recipe says to skip such ones."""
    place = f"{document['input']} at {document['span_start']:,}"
    name = document["source"], document["id"]
    earlier = seen.ids.setdefault(name, place)
    if earlier is place:
        return False
    if work.spec.read[document["source"]].on_error == "raise":
        raise DataError(
            f"data.sources.{document['source']}: every document must have its own id, got {document['id']} "
            f"in {earlier} and in {place}; name another id field, or set on_error: skip to keep the first"
        )
    return True


def _drop(seen: _Seen, reason: str, size: int) -> None:
    seen.dropped.setdefault(reason, Counter()).update(documents=1, bytes=size)


def _count(
    documents: pa.Table, tokens: np.ndarray, kept: np.ndarray, heldout: np.ndarray, seen: _Seen
) -> None:
    """Count documents and tokens of each split, and of each source by octave of length."""
    for split in SPLITS:
        own = tokens[kept & (heldout == (split == "heldout"))]
        seen.counts[split].update(documents=len(own), tokens=int(own.sum()))
    if not kept.any():
        return
    [source] = set(documents.column("source").to_pylist())
    octaves = np.exp2(np.floor(np.log2(np.maximum(tokens[kept], 1)))).astype(np.int64)
    values, counts = np.unique(octaves, return_counts=True)
    seen.histogram.setdefault(source, Counter()).update(
        dict(zip(values.tolist(), counts.tolist(), strict=True))
    )


def _write_inputs(work: Work, records: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Write size, stamp and sha256 of each input, a line each; by source how many, and one hash of all."""
    hashes: dict[tuple[str, str], str | None] = {}
    for job, record in zip(work.jobs, records, strict=True):
        hashes.update({(job.source, name): digest for name, digest in record["hashes"].items()})
    told = {}
    with (work.folder / INPUTS).open("w", encoding="utf-8") as file:
        for source, inputs in work.inputs.items():
            total = hashlib.sha256()
            for entry in inputs:
                digest = hashes.get((source, entry.name))
                total.update(f"{entry.name}\0{digest or entry.stamp}\0".encode())
                line = {"source": source, "name": entry.name, "bytes": entry.size, "stamp": entry.stamp}
                file.write(json.dumps(line | {"sha256": digest}) + "\n")
            size = sum(entry.size for entry in inputs)
            told[source] = {"files": len(inputs), "bytes": size, "sha256": total.hexdigest()}
    return told


def _nothing_to_train(work: Work, seen: _Seen) -> str:
    files = {name: told["files"] for name, told in work.identity["inputs"].items()}
    dropped = {reason: counts["documents"] for reason, counts in seen.dropped.items()}
    return (
        f"data.sources: must give at least one document to train on, got files {files}, dropped {dropped}; "
        "check paths, suffixes and exclude, or lower holdout"
    )


def _tidy(folder: Path) -> None:
    """Remove what only the work needed; a corpus is whole with it too."""
    for path in [*folder.glob("parts/*.json"), *folder.glob(".lock-*"), folder / CLAIM]:
        path.unlink(missing_ok=True)


def _versions() -> dict[str, str]:
    found = {}
    for library in LIBRARIES:
        with suppress(PackageNotFoundError):
            found[library] = version(library)
    return found
