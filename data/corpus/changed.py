"""Are inputs still what a unit's record, or a finished corpus, tells of?

Where times are the same, nothing is read; where they differ, the hash decides.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import DataError
from ..sources.files import hash_of_all
from ..sources.source import Input
from .tokenise import Job

INPUTS = "inputs.jsonl"


def refuse_changed(jobs: Sequence[Job], records: Sequence[Mapping[str, Any]], folder: Path) -> None:
    """Raise where records of units tell of inputs that are other now: of other times, and of no hash or
    another, whichever unit with these times has it."""
    known = {
        (jobs[record["unit"]].source, name, kept["stamp"]): kept["sha256"]
        for record in records
        for name, kept in record["inputs"].items()
        if kept["sha256"]
    }
    hashes: dict[tuple[str, str], str | None] = {}
    changed: dict[tuple[str, str], list[int]] = {}
    for record in records:
        job = jobs[record["unit"]]
        for name, entry in job.inputs.items():
            stamp, key = record["inputs"][name]["stamp"], (job.source, name)
            if stamp == entry.stamp:
                continue
            digest = known.get((*key, stamp))
            if digest and key not in hashes:
                hashes[key] = hash_of_all(entry.files)
            if not digest or hashes[key] != digest:
                changed.setdefault(key, []).append(job.number)
    if changed:
        raise DataError("\n".join(_said(*key, units, folder) for key, units in changed.items()))


def _said(source: str, name: str, units: Sequence[int], folder: Path) -> str:
    files = " ".join(f"{folder}/parts/{unit:06}*" for unit in units)
    return (
        f"data.sources.{source}: {name} must be what it was when it was tokenised, got other bytes or times; "
        f"restore it, or delete {files if len(units) <= 3 else folder} to tokenise it anew"
    )


def changed_since(corpus: Path, inputs: Mapping[str, Sequence[Input]]) -> Iterator[str]:
    """Name the inputs of a finished corpus that are gone, new, or of another content."""
    lines = [json.loads(line) for line in (corpus / INPUTS).read_text("utf-8").splitlines()]
    kept = {(line["source"], line["name"]): line for line in lines}
    now = {(source, entry.name) for source, entries in inputs.items() for entry in entries}
    yield from (
        f"data.sources.{source}: {name} is gone" for source, name in kept if (source, name) not in now
    )
    for source, entries in inputs.items():
        for entry in entries:
            if (before := kept.get((source, entry.name))) is None:
                yield f"data.sources.{source}: {entry.name} is new"
                continue
            if entry.stamp and entry.stamp == before["stamp"]:
                continue
            if (digest := hash_of_all(entry.files)) is None or digest != before["sha256"]:
                yield f"data.sources.{source}: the content of {entry.name}"
