"""What would `prepare` make, how long would it take and how large would it be? Told from a sample.

The sample is prepared for real, in a temporary folder: every so many-th unit of each source is tokenised,
mixed and packed by the code that does all of it, with as much less of the budget. So what is infeasible is
found here, and every share, distance and cost is of a plan; totals are scaled up.
"""

from __future__ import annotations

import time
import zlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from .corpus.merge import merge
from .corpus.reading import tokenise_unit
from .corpus.store import Documents
from .corpus.work import plan_work
from .coverage import as_json, buckets, coverage
from .encoding.encoder import Encoder
from .errors import DataError
from .plan import Plan
from .planning import write_plan
from .sources import open_reader
from .sources.raw import Raw, Reader, Unit
from .spec import DataSpec

SAMPLE = 16_000_000
"""Stored bytes that are read of all sources together."""
UNITS = 64
"""Units a source is cut into at the least, where it can be cut."""
TOKEN_BYTES, ROW_BYTES = 4, 160
"""On disk: a token, and about what a document's facts take in its part and in the index."""
PACKED = (".gz", ".zst", ".zstd", ".parquet")
"""Endings of inputs whose text is larger than they are."""


@dataclass(frozen=True, kw_only=True)
class Sampled:
    """What was read of a source."""

    stored: int
    """Bytes of all its inputs."""
    share: float
    """Of its text, in the sample."""
    bytes: int
    """Text that was read, UTF-8."""
    seconds: float

    @property
    def all_bytes(self) -> float:
        """Text in all."""
        return self.bytes / self.share


def preview(spec: DataSpec, encoder: Encoder, *, length: int, reach: int, workers: int) -> dict[str, Any]:
    """Give the report that `prepare` would give, estimated, with disk, hours and the text there is.

    `spec.tokens` is set. A DataError says what is infeasible, in the sample's numbers.
    """
    with TemporaryDirectory() as folder:
        store = Path(folder)
        sampled = _read(spec, encoder, store)
        share = min(own.share for own in sampled.values())
        small = spec.model_copy(update={"tokens": max(round((spec.tokens or 0) * share), length)})
        corpus = Thinned(store / "corpus", {name: share / own.share for name, own in sampled.items()})
        try:
            target = store / "plans/sample"
            write_plan(small, encoder, corpus.manifest, target, length=length, reach=reach, documents=corpus)
        except DataError as error:
            raise DataError(f"in a sample of 1/{1 / share:,.0f} of the text: {error}") from error
        plan = Plan(store / "plans/sample")
        return _report(spec, sampled, plan, corpus, share, workers, encoder)


class Thinned(Documents):
    """The documents of a sample, with as large a part of each source as of the one that was sampled least."""

    def __init__(self, corpus: Path, keep: dict[str, float]) -> None:
        super().__init__(corpus, "train")
        self._keep = keep

    def of_source(self, name: str) -> np.ndarray:
        rows = super().of_source(name)
        draw = (self.keys()[rows] >> np.uint64(11)).astype(np.float64) / 2**53
        return rows[draw < self._keep[name]]


def _read(spec: DataSpec, encoder: Encoder, store: Path) -> dict[str, Sampled]:
    """Prepare a corpus of some units of each source."""
    inputs = plan_work(spec, encoder, store).inputs
    stored = {name: sum(entry.size for entry in own) for name, own in inputs.items()}
    size = max(min(stored.values()) // UNITS, SAMPLE // UNITS, 1)
    work = plan_work(spec.model_copy(update={"part_bytes": size}), encoder, store)
    work.parts.mkdir(parents=True)
    part = min(1.0, SAMPLE / max(sum(stored.values()), 1))
    jobs, sampled = [], {}
    for name in inputs:
        own = [job for job in work.jobs if job.source == name]
        step = max(round(1 / part), 1)
        chosen = own[step // 2 :: step] or own[:1]
        whole = open_reader(spec.read[name], where=f"data.sources.{name}")
        reader = Bounded(reader=whole, most=max(SAMPLE // len(chosen), 1))
        began = time.perf_counter()
        for job in chosen:
            jobs.append(replace(job, number=len(jobs), hashes=False))
            tokenise_unit(jobs[-1], reader, encoder)
        sampled[name] = Sampled(
            stored=stored[name],
            share=max(reader.read_share, 1e-9) / len(own),
            bytes=reader.bytes,
            seconds=time.perf_counter() - began,
        )
    merge(replace(work, jobs=jobs), store / "corpus")
    return sampled


@dataclass
class Bounded:
    """A reader that leaves a unit where it has given enough of it."""

    reader: Reader
    most: int
    """Bytes of text that a unit gives at the most."""
    bytes: int = 0
    read_share: float = 0.0
    """Sum over the units of what was read of each."""

    def inputs(self) -> Any:
        return self.reader.inputs()

    def units(self, inputs: Any, size: int) -> list[Unit]:
        return self.reader.units(inputs, size)

    def read(self, unit: Unit, skip: int = 0) -> Iterator[Raw]:
        """Give the documents of a unit until there are enough."""
        given, packed = 0, 0
        for raw in self.reader.read(unit, skip):
            if raw.text is not None:
                raw = replace(raw, text=list(raw.text))
                blob = "".join(raw.text or ()).encode()
                given, packed = given + len(blob), packed + len(zlib.compress(blob, 6))
            elif raw.tokens is not None:
                given, packed = given + raw.tokens.nbytes, packed + raw.tokens.nbytes
            yield raw
            if given >= self.most:
                self.read_share += min(1.0, _stored(unit, given, packed) / max(_size(unit), 1))
                break
        else:
            self.read_share += 1.0
        self.bytes += given


def _size(unit: Unit) -> int:
    """Give the stored bytes of a unit: of its ranges, or of its inputs."""
    return sum((span.stop - span.start) if span.stop else span.input.size for span in unit.spans)


def _stored(unit: Unit, given: int, packed: int) -> int:
    """Estimate what text takes where it is stored."""
    return packed if unit.spans[0].input.name.endswith(PACKED) else given


def _report(
    spec: DataSpec,
    sampled: dict[str, Sampled],
    plan: Plan,
    corpus: Documents,
    share: float,
    workers: int,
    encoder: Encoder,
) -> dict[str, Any]:
    """Scale the sample's report up."""
    told = plan.manifest["report"]
    lengths = corpus.lengths()
    sources = {}
    tokens_in_all = rows_in_all = 0.0
    for name, own in sampled.items():
        rows = Documents.of_source(corpus, name)
        tokens, documents = lengths[rows].sum() / own.share, len(rows) / own.share
        tokens_in_all, rows_in_all = tokens_in_all + tokens, rows_in_all + documents
        sources[name] = {
            "stored_bytes": own.stored,
            "text_bytes": round(own.all_bytes),
            "documents": round(documents),
            "tokens": round(tokens),
            "bytes_per_token": own.bytes / max(int(lengths[rows].sum()), 1),
        }
    seconds = sum(own.seconds / own.share for own in sampled.values())
    octaves = [
        {**octave, "tokens": round(octave["tokens"] / share), "pairs": round(octave["pairs"] / share)}
        for octave in as_json(coverage(plan))
    ]
    return {
        "sample_share": share,
        "sample_bytes": sum(own.bytes for own in sampled.values()),
        "engine": encoder.why,
        "there": sources,
        "sources": told["sources"],
        "dropped": {
            reason: {key: round(value / share) for key, value in counts.items()}
            for reason, counts in told["dropped"].items()
        },
        "length": plan.length,
        "tokens": spec.tokens,
        "packs": round(told["packs"] / share),
        "padding_share": told["padding"] / max(told["packs"] * plan.length, 1),
        "disk_bytes": round(tokens_in_all * TOKEN_BYTES + rows_in_all * ROW_BYTES),
        "core_hours": seconds / 3600,
        "hours": seconds / 3600 / workers,
        "workers": workers,
        "coverage": octaves,
        "pairs_per_token": sum(octave["pairs"] for octave in octaves) / max(spec.tokens or 1, 1),
        "buckets": [
            asdict(
                replace(
                    bucket,
                    documents=round(bucket.documents / share),
                    tokens=round(bucket.tokens / share),
                )
            )
            for bucket in buckets(plan)
        ],
    }
