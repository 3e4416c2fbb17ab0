"""How do the sources of a recipe become one tokenised corpus, split into train and held-out?

A hash of the normalised content decides the split, so that a document stays held out whatever the seed, the
mixture or the place it lies in. A corpus is made once and reused; other inputs need another store.

When all units are tokenised, their files are gone through one by one in canonical order, which decides what a
duplicate is: a later document goes where an earlier one had its id, or most of its long lines. Held are 8
bytes of each id, and the hashes of long lines where near-duplicates are looked for.
"""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from ..counts import Counts
from ..encoding.encoder import Encoder
from ..errors import DataError
from ..spec import DataSpec
from ..whole import put_in_place, room_to_write
from .changed import INPUTS, changed_since
from .manifest import differences, file_hash, fingerprint, read_manifest, write_manifest
from .store import INDEX, SPLITS, Part
from .work import CLAIM, Progress, Task, Work, do_work, plan_work

LIBRARIES = ("tokenizers", "tiktoken", "sentencepiece", "pyarrow", "numpy")


def build_corpus(
    spec: DataSpec,
    encoder: Encoder,
    folder: Path,
    *,
    task: Task | None = None,
    workers: int = 1,
    progress: Progress | None = None,
) -> dict[str, Any] | None:
    """Write the corpus folder, or reuse the one that is there; its manifest.

    With a `task` only that task's units are done, and there is no manifest yet. A DataError names every field
    in which an existing corpus differs from what the recipe would read now.
    """
    work = plan_work(spec, encoder, folder.parent)
    if folder.exists():
        return _reused(work, folder)
    do_work(work, task or Task(), workers=workers, progress=progress)
    return None if task else merge(work, folder)


def merge_corpus(spec: DataSpec, encoder: Encoder, folder: Path) -> dict[str, Any]:
    """Make a corpus of the work of all tasks, or reuse the one that is there; a DataError names what is
    missing or foreign."""
    work = plan_work(spec, encoder, folder.parent)
    return _reused(work, folder) if folder.exists() else merge(work, folder)


def work_done(spec: DataSpec, encoder: Encoder, folder: Path) -> dict[str, Any]:
    """Count the units that are done, of all tasks, and name the folder they lie in."""
    if folder.exists():
        return {"units": None, "of": None, "folder": str(folder)}
    work = plan_work(spec, encoder, folder.parent)
    done = sum(job.done.exists() for job in work.jobs)
    return {"units": done, "of": len(work.jobs), "folder": str(work.folder)}


@dataclass(kw_only=True)
class _Seen:
    """What is known of the documents met so far."""

    repeated: dict[str, set[int]]
    """By source: hashes of ids that occur more than once."""
    ids: dict[tuple[str, str], str] = field(default_factory=dict)
    lines: set[int] = field(default_factory=set)
    dropped: Counts
    counts: Counts = field(
        default_factory=lambda: Counts({split: {"documents": 0, "tokens": 0} for split in SPLITS})
    )
    """By split."""
    lengths: Counts = field(default_factory=Counts)
    """By source: documents by octave of their tokens."""
    length_tokens: Counts = field(default_factory=Counts)
    """By source: tokens of the documents of each octave."""


def merge(work: Work, folder: Path) -> dict[str, Any]:
    """Check that every unit is there, index its documents, and give the folder its name; the manifest."""
    records = work.records()
    parts = [part for record in records for part in record["parts"]]
    opened = [Part(work.parts / part["name"]) for part in parts]
    sources = [job.source for job, record in zip(work.jobs, records, strict=True) for _ in record["parts"]]
    dropped = Counts.total(record["dropped"] for record in records)
    seen = _Seen(repeated=_repeated(opened, sources), dropped=dropped)
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
            "counts": seen.counts,
            "left_out": work.left_out,
            "dropped": seen.dropped,
            "lengths": _in_order(seen.lengths),
            "length_tokens": _in_order(seen.length_tokens),
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


def _in_order(octaves: Counts) -> Counts:
    return Counts(
        {source: {start: bins[start] for start in sorted(bins, key=int)} for source, bins in octaves.items()}
    )


def _repeated(opened: Sequence[Part], sources: Sequence[str]) -> dict[str, set[int]]:
    """Find the hashes of ids that stand more than once in a source."""
    keys: dict[str, list[np.ndarray]] = {}
    for part, source in zip(opened, sources, strict=True):
        keys.setdefault(source, []).append(part.table.column("key").drop_null().to_numpy())
    repeated = {}
    for source, hashes in keys.items():
        values, counts = np.unique(np.concatenate(hashes), return_counts=True)
        repeated[source] = set(values[counts > 1].tolist())
    return repeated


def _write_indices(work: Work, opened: Sequence[Part], seen: _Seen) -> dict[str, str]:
    """Write both splits' indices; the sha256 of each."""
    paths = {split: work.folder / f"{split}.arrow" for split in SPLITS}
    with ExitStack() as held:
        files = {
            split: held.enter_context(pa.ipc.new_file(held.enter_context(pa.OSFile(str(path), "wb")), INDEX))
            for split, path in paths.items()
        }
        for number, part in enumerate(opened):
            index, sides = _index(work, number, part, seen)
            for split, side in sides.items():
                for batch in index.filter(pa.array(side)).combine_chunks().to_batches():
                    files[split].write_batch(batch)
    return {split: file_hash(path) for split, path in paths.items()}


def _index(work: Work, number: int, part: Part, seen: _Seen) -> tuple[pa.Table, dict[str, np.ndarray]]:
    """Give the index rows of a part's documents, and by split which of them it gets (bool)."""
    rows = part.table.drop_columns(["tokens", "lines"])
    last = np.flatnonzero(rows.column("last").to_numpy())
    documents = rows.take(pa.array(last))
    tokens = documents.column("start").to_numpy() + part.lengths()[last]
    heldout = documents.column("heldout").to_numpy(zero_copy_only=False).astype(bool)
    kept = _kept(work, documents, part.table.column("lines"), last, seen)
    sides: dict[str, np.ndarray] = {"train": kept & ~heldout, "heldout": kept & heldout}
    for split, side in sides.items():
        seen.counts.add(split, documents=int(side.sum()), tokens=int(tokens[side].sum()))
    octaves = np.exp2(np.floor(np.log2(np.maximum(tokens[kept], 1)))).astype(np.int64)
    starts, which = np.unique(octaves, return_inverse=True)
    if len(starts):
        [source] = set(documents.column("source").to_pylist())
        sums = np.zeros(len(starts), np.int64)
        np.add.at(sums, which, tokens[kept])
        for counts, each in ((seen.lengths, np.bincount(which)), (seen.length_tokens, sums)):
            counts.add(source, **dict(zip(map(str, starts.tolist()), each.tolist(), strict=True)))
    places = {"part": np.full(len(last), number), "row": np.append(0, last[:-1] + 1), "length": tokens}
    columns = [
        pa.array(places[column.name], column.type) if column.name in places else documents.column(column.name)
        for column in INDEX
    ]
    return pa.Table.from_arrays(columns, schema=INDEX), sides


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
            seen.dropped.add("duplicate_id", documents=1, bytes=int(sizes[row]))
    if (most := work.spec.near_duplicates) < 1:
        for row in np.flatnonzero(kept).tolist():
            long_lines = set(lines[int(last[row])].as_py() or ())
            if long_lines and len(long_lines & seen.lines) > most * len(long_lines):
                kept[row] = False
                seen.dropped.add("near_duplicate", documents=1, bytes=int(sizes[row]))
            else:
                seen.lines |= long_lines
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


def _write_inputs(work: Work, records: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Write size, stamp and sha256 of each input, a line each; by source how many, and one hash of all."""
    hashes: dict[tuple[str, str], str] = {}
    for job, record in zip(work.jobs, records, strict=True):
        for name, kept in record["inputs"].items():
            if kept["sha256"]:
                hashes[job.source, name] = kept["sha256"]
    summary = {}
    with (work.folder / INPUTS).open("w", encoding="utf-8") as file:
        for source, inputs in work.inputs.items():
            total = hashlib.sha256()
            for entry in inputs:
                digest = hashes.get((source, entry.name))
                total.update(f"{entry.name}\0{digest or entry.stamp}\0".encode())
                line = {"source": source, "name": entry.name, "bytes": entry.size, "stamp": entry.stamp}
                file.write(json.dumps(line | {"sha256": digest}) + "\n")
            size = sum(entry.size for entry in inputs)
            summary[source] = {"files": len(inputs), "bytes": size, "sha256": total.hexdigest()}
    return summary


def _nothing_to_train(work: Work, seen: _Seen) -> str:
    files = {name: summary["files"] for name, summary in work.identity["inputs"].items()}
    dropped = {reason: counts["documents"] for reason, counts in seen.dropped.items()}
    return (
        f"data.sources: must give at least one document to train on, got files {files}, dropped {dropped}; "
        "check paths, suffixes and exclude, or lower holdout"
    )


def _tidy(folder: Path) -> None:
    """Remove what only the work needed, and what killed processes left; a corpus is whole with it too."""
    for path in [
        *folder.glob("parts/*.json"),
        *folder.glob("parts/.*"),
        *folder.glob(".lock-*"),
        folder / CLAIM,
    ]:
        path.unlink(missing_ok=True)


def _versions() -> dict[str, str]:
    versions = {}
    for library in LIBRARIES:
        with suppress(PackageNotFoundError):
            versions[library] = version(library)
    return versions


def _some(names: list[str], most: int = 5) -> list[str]:
    """Keep a message short where a whole tree changed."""
    return names if len(names) <= most else [*names[:most], f"{len(names) - most:,} more"]


def _reused(work: Work, folder: Path) -> dict[str, Any]:
    """Give the manifest of a corpus that is there, if it is what the recipe reads."""
    manifest = read_manifest(folder, "corpus")
    fields = differences(manifest["identity"], json.loads(json.dumps(work.identity)))
    if all(field.startswith("inputs.") for field in fields):
        fields = _some(list(changed_since(folder, work.inputs))) or fields
    for name, source in work.spec.read.items():
        if source.on_error == "raise" and manifest["sources"][name]["on_error"] == "skip":
            fields.append(f"data.sources.{name}.on_error (skip there, raise asked)")
    if fields:
        raise DataError(
            f"{folder}: must be the corpus that the recipe reads, got a difference in {'; '.join(fields)}; "
            "restore the inputs, set another data.store, or delete the folder to prepare it anew"
        )
    return manifest
