"""How do the sources of a recipe become one tokenised corpus, split into train and held-out?

A hash of the normalised content decides the split, so that a document stays held out whatever the seed, the
mixture or the place it lies in. A corpus is made once and reused; other inputs need another store.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..encoding.encoder import Encoder
from ..errors import DataError
from ..sources.source import Input
from ..spec import DataSpec
from .manifest import differences, read_manifest
from .merge import merge
from .tokenise import hash_input
from .work import INPUTS, Task, Work, plan_work
from .workers import Progress, do_work


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


def _reused(work: Work, folder: Path) -> dict[str, Any]:
    """Give the manifest of a corpus that is there, if it is what the recipe reads."""
    manifest = read_manifest(folder, "corpus")
    _refuse_another(manifest, work, folder)
    return manifest


def _refuse_another(manifest: dict[str, Any], work: Work, folder: Path) -> None:
    found = differences(manifest["identity"], json.loads(json.dumps(work.identity)))
    found = found or list(_changed(folder, work.inputs))
    for name, source in work.spec.read.items():
        if source.on_error == "raise" and manifest["sources"][name]["on_error"] == "skip":
            found.append(f"data.sources.{name}.on_error (skip there, raise asked)")
    if found:
        raise DataError(
            f"{folder}: must be the corpus that the recipe reads, got a difference in {'; '.join(found)}; "
            "restore the inputs, set another data.store, or delete the folder to prepare it anew"
        )


def _changed(folder: Path, inputs: dict[str, list[Input]]) -> Iterator[str]:
    """Name the inputs whose content changed; those whose stamp is the same are not read again."""
    lines = [json.loads(line) for line in (folder / INPUTS).read_text("utf-8").splitlines()]
    kept = {(line["source"], line["name"]): line for line in lines}
    for source, own in inputs.items():
        for entry in own:
            before = kept[source, entry.name]
            if entry.stamp and entry.stamp == before["stamp"]:
                continue
            if (digest := hash_input(entry)) is None or digest != before["sha256"]:
                yield f"data.sources.{source}: the content of {entry.name}"
