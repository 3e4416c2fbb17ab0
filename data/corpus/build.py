"""How do the files of a recipe become one tokenised corpus, split into train and held-out?

Exact order: sources as in the recipe, files sorted; near-duplicates of earlier documents are dropped; a hash
of the normalised content decides the split, so that a document stays held out whatever the seed, the mixture
or the place it lies in.
"""

from __future__ import annotations

import hashlib
import platform
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import tokenizers

from ..encoding.encoder import Encoder, batches
from ..errors import DataError
from ..sources import Raw, list_files, read_files
from ..spec import DataSpec
from .store import DocumentWriter, differences, fingerprint, read_manifest, whole_or_absent, write_manifest

LONG_LINE = 20
SPLITS = ("train", "heldout")

Progress = Callable[[str, int, int], None]
"""Called with a phase, how much is done, and how much there is (0: unknown)."""


@dataclass(kw_only=True)
class _Reading:
    """What was seen while reading: hashes for the manifest, lines for near-duplicates, counts for the
    report."""

    spec: DataSpec
    lines: set[bytes] = field(default_factory=set)
    inputs: dict[str, Any] = field(default_factory=dict)
    dropped: dict[str, Counter[str]] = field(default_factory=dict)

    def documents(self) -> Iterator[tuple[str, Raw]]:
        for name, source in self.spec.read.items():
            total = hashlib.sha256()
            files = size = 0
            for raw in read_files(source, where=f"data.sources.{name}"):
                total.update(raw.id.encode() + b"\0" + raw.digest)
                files, size = files + 1, size + raw.bytes
                reason = self._reason_to_drop(raw)
                if reason is None:
                    yield name, raw
                else:
                    self.dropped.setdefault(reason, Counter()).update(documents=1, bytes=raw.bytes)
            self.inputs[name] = {"files": files, "bytes": size, "sha256": total.hexdigest()}

    def _reason_to_drop(self, raw: Raw) -> str | None:
        if raw.text is None:
            return "not_utf8"
        if not raw.text.strip():
            return "empty"
        lines = {
            hashlib.blake2b(line.encode(), digest_size=8).digest()
            for line in normalised(raw.text).split("\n")
            if len(line) >= LONG_LINE
        }
        if lines and len(lines & self.lines) > self.spec.near_duplicates * len(lines):
            return "near_duplicate"
        self.lines |= lines
        return None


def build_corpus(
    spec: DataSpec, encoder: Encoder, folder: Path, progress: Progress | None = None
) -> dict[str, Any]:
    """Write the corpus folder, or reuse the one that is there; its manifest.

    A DataError names every field in which an existing corpus differs from what the recipe would read now.
    """
    if folder.exists():
        manifest = read_manifest(folder, "corpus")
        _refuse_another(manifest["identity"], _identity(spec, encoder, _hash_inputs(spec)), folder)
        return manifest
    reading = _Reading(spec=spec)
    with whole_or_absent(folder) as partial, ExitStack() as stack:
        writers = {split: DocumentWriter(partial / f"{split}.arrow") for split in SPLITS}
        for writer in writers.values():
            stack.callback(writer.abandon)
        _tokenise(reading, encoder, writers, progress)
        hashes = {split: writer.close() for split, writer in writers.items()}
        if not writers["train"].documents:
            raise DataError(_nothing_to_train(reading))
        manifest = {
            "fingerprint": fingerprint(hashes),
            "identity": _identity(spec, encoder, reading.inputs),
            "counts": {s: {"documents": w.documents, "tokens": w.tokens} for s, w in writers.items()},
            "dropped": {reason: dict(counts) for reason, counts in reading.dropped.items()},
            "separator": encoder.separator,
            "sources": {name: source.model_dump(mode="json") for name, source in spec.read.items()},
            "versions": {
                "python": platform.python_version(),
                "tokenizers": tokenizers.__version__,
                "pyarrow": pyarrow.__version__,
            },
        }
        write_manifest(partial, "corpus", manifest)
    return manifest


def normalised(text: str) -> str:
    """Give the text with outer space of lines and empty lines removed; layout alone makes no new document."""
    return "\n".join(line for line in map(str.strip, text.split("\n")) if line)


def is_heldout(text: str, share: float) -> bool:
    """Decide by the sha256 of the normalised content, as a number in [0, 1)."""
    digest = hashlib.sha256(normalised(text).encode()).digest()
    return int.from_bytes(digest[:8], "big") < share * 2**64


def _tokenise(
    reading: _Reading, encoder: Encoder, writers: dict[str, DocumentWriter], progress: Progress | None
) -> None:
    end = np.array([encoder.separator], np.uint32)
    done = 0
    for batch in batches(((name, raw), raw.bytes) for name, raw in reading.documents()):
        texts = [raw.text or "" for _, raw in batch]
        for (name, raw), text, tokens in zip(batch, texts, encoder.encode(texts), strict=True):
            split = "heldout" if is_heldout(text, reading.spec.holdout) else "train"
            size = len(text.encode())
            writers[split].add(np.concatenate([tokens, end]), source=name, id=raw.id, bytes=size)
            done += raw.bytes
        if progress:
            progress("tokenise (bytes)", done, 0)


def _hash_inputs(spec: DataSpec) -> dict[str, Any]:
    inputs = {}
    for name, source in spec.read.items():
        total = hashlib.sha256()
        files = list_files(source, where=f"data.sources.{name}")
        size = 0
        for id_, path in files:
            content = path.read_bytes()
            total.update(id_.encode() + b"\0" + hashlib.sha256(content).digest())
            size += len(content)
        inputs[name] = {"files": len(files), "bytes": size, "sha256": total.hexdigest()}
    return inputs


def _identity(spec: DataSpec, encoder: Encoder, inputs: dict[str, Any]) -> dict[str, Any]:
    return {
        "tokenizer": encoder.fingerprint,
        "holdout": spec.holdout,
        "near_duplicates": spec.near_duplicates,
        "order": list(inputs),
        "inputs": inputs,
    }


def _refuse_another(kept: dict[str, Any], asked: dict[str, Any], folder: Path) -> None:
    found = differences(kept, asked)
    if found:
        raise DataError(
            f"{folder}: must be the corpus that the recipe reads, got a difference in {'; '.join(found)}; "
            "restore the inputs, set another data.store, or delete the folder to prepare it anew"
        )


def _nothing_to_train(reading: _Reading) -> str:
    files = {name: counts["files"] for name, counts in reading.inputs.items()}
    dropped = {reason: counts["documents"] for reason, counts in reading.dropped.items()}
    return (
        f"data.sources: must give at least one document to train on, got files {files}, dropped {dropped}; "
        "check paths, suffixes and exclude, or lower holdout"
    )
