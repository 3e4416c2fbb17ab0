"""Which part of the text tells what all of it is like, and how large a part is it?

A small source is read whole. Of a large one a little is read at places that lie evenly over its stored bytes,
and what was read is weighed against them. The part becomes a corpus of its own, in a temporary folder.
"""

from __future__ import annotations

import io
import json
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import BinaryIO

import numpy as np
import pyarrow as pa

from .corpus.merge import merge
from .corpus.store import Documents
from .corpus.tokenise import Job, tokenise_unit
from .corpus.work import Work, plan_work
from .encoding.encoder import Encoder
from .sources import open_reader
from .sources.jsonl import JsonlReading
from .sources.paths import compression, opened
from .sources.source import Input, Raw, Reader, Reading, Span, Unit, gathered
from .sources.text import FilesReading
from .spec import DataSpec

SAMPLE, LEAST = 16_000_000, 4_000_000
"""Bytes that are read of all sources together, and of each at the least."""
PLACES = 64
"""Places in a source that its sample comes from, where it can be cut."""
OVER = 4
"""So many times what was to be read is read where documents are long."""
MOST_UNITS = 4096
"""Units that one place's input is cut into at the most."""
LONGEST = 16_000_000
"""Bytes of a document that are read at the most."""
WHOLE, SIP = 1 << 62, 512
IN_BYTES = FilesReading | JsonlReading
"""Kinds whose documents lie in bytes of their inputs, not in rows."""


@dataclass(frozen=True, kw_only=True)
class Sampled:
    """What was read of a source."""

    stored: int
    """Bytes of all its inputs."""
    share: float
    """Of them, what was read."""
    bytes: int
    """Of the text that was read, UTF-8, or of the tokens."""
    seconds: float
    disk: int
    """Bytes of its rows in the files of tokens."""
    dropped: dict[str, dict[str, int]]
    """While reading, by reason: documents and bytes."""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """A corpus of a part of each source."""

    folder: Path
    """A store, for plans on this corpus."""
    encoder: Encoder
    corpus: Documents
    """Its training split."""
    documents: Documents
    """What plans are made of: all of `corpus`, or as large a part of each source as of the others."""
    sources: dict[str, Sampled]
    shares: dict[str, float]
    """What part of each source `documents` hold."""


class Thinned(Documents):
    """The documents of a corpus, of each source so large a part."""

    def __init__(self, corpus: Path, keep: dict[str, float]) -> None:
        super().__init__(corpus, "train")
        self._keep = keep

    def of_source(self, name: str) -> np.ndarray:
        rows = super().of_source(name)
        draw = (self.keys()[rows] >> np.uint64(11)).astype(np.float64) / 2**53
        return rows[draw < self._keep[name]]


@contextmanager
def sampled(spec: DataSpec, encoder: Encoder) -> Iterator[Sample]:
    """Read and tokenise a part of each source; it is there until the block is left.

    Where a recipe pools all documents, the parts are equally large; else each source by itself is told best
    by a part that is large in bytes.
    """
    with TemporaryDirectory() as folder:
        store = Path(folder)
        work = plan_work(spec.model_copy(update={"part_bytes": WHOLE}), encoder, store)
        work.parts.mkdir(parents=True)
        stored = {name: sum(entry.size for entry in own) for name, own in work.inputs.items()}
        jobs: list[Job] = []
        read = {
            name: _read(name, work, target, encoder, jobs)
            for name, target in _targets(stored, evenly=spec.mode == "global").items()
        }
        merge(replace(work, jobs=jobs), store / "corpus")
        shares = {name: own.share for name, own in read.items()}
        corpus = documents = Documents(store / "corpus", "train")
        if spec.mode == "global":
            least = min(shares.values())
            documents = Thinned(store / "corpus", {name: least / share for name, share in shares.items()})
            shares = dict.fromkeys(shares, least)
        yield Sample(
            folder=store, encoder=encoder, corpus=corpus, documents=documents, sources=read, shares=shares
        )


def _targets(stored: dict[str, int], *, evenly: bool) -> dict[str, int]:
    """Give the bytes to read of each source: the same share, or the same number as long as there are so
    many."""
    if evenly:
        share = min(1.0, SAMPLE / max(sum(stored.values()), 1))
        return {name: int(np.ceil(size * share)) for name, size in stored.items()}
    targets, left = dict.fromkeys(stored, 0), SAMPLE
    for at, name in enumerate(sorted(stored, key=lambda name: stored[name])):
        targets[name] = min(stored[name], max(left // (len(stored) - at), LEAST))
        left = max(left - targets[name], 0)
    return targets


def _read(name: str, work: Work, target: int, encoder: Encoder, jobs: list[Job]) -> Sampled:
    """Read about `target` bytes of a source, adding what was done to `jobs`."""
    source, inputs = work.spec.read[name], work.inputs[name]
    reader, in_bytes = open_reader(source, where=f"data.sources.{name}"), isinstance(source, IN_BYTES)
    stored = sum(entry.size for entry in inputs)
    whole = target >= stored
    lines = isinstance(source, JsonlReading) and not whole  # may be left anywhere without a bias
    size = max((stored if lines else target) // PLACES, 1)
    places = (
        [(unit, 0.0) for unit in reader.units(inputs, size)] if whole
        else _places(reader, source, inputs, stored, size)
    )  # fmt: skip
    parts, done, seconds, first = list[Part](), 0.0, 0.0, len(jobs)
    for unit, held in places:
        if sum(part.bytes for part in parts) >= OVER * target and not whole:
            break
        part = Part(
            reader=reader,
            in_bytes=in_bytes,
            most=WHOLE if whole else target // len(places),
            longest=WHOLE if whole else LONGEST,
        )
        job = replace(work.jobs[0], number=len(jobs), source=name, unit=unit, hashes=False)
        began = time.perf_counter()
        tokenise_unit(replace(job, part_bytes=work.spec.part_bytes), part, encoder)
        seconds += time.perf_counter() - began
        done += held * part.share
        parts.append(part)
        jobs.append(job)
    own, passed = jobs[first:], sum(part.passed for part in parts)
    done *= 1 - sum(part.cut for part in parts) / max(passed, 1)
    return Sampled(
        stored=stored,
        share=1.0 if whole else min(max(done / stored, 1e-12), 1.0),
        bytes=sum(part.bytes for part in parts),
        seconds=seconds,
        disk=sum(bytes_of(path) for job in own for path in job.folder.glob(f"{job.done.stem}-*.arrow")),
        dropped=_summed(json.loads(job.done.read_text("utf-8"))["dropped"] for job in own),
    )


def _places(
    reader: Reader, source: Reading, inputs: Sequence[Input], stored: int, size: int
) -> list[tuple[Unit, float]]:
    """Give units of about `size` bytes from all over the inputs, in no order, with the stored bytes of
    each; only inputs that hold one are opened."""
    found: list[tuple[Unit, float]] = []
    even = (np.arange(PLACES) + 0.5) / PLACES
    if isinstance(source, FilesReading):  # a long file is a unit: over bytes, such would be preferred
        units = reader.units(inputs, size)
        for at in np.unique((even * len(units)).astype(int)).tolist():
            found.append((units[at], _stored(units[at])))
    else:
        runs = gathered((((Span(input=entry),), entry.size) for entry in inputs), size)
        sizes = [_stored(run) for run in runs]
        ends = np.cumsum(sizes)
        which = np.searchsorted(ends, even * stored, side="right")
        for run in np.unique(which).tolist():
            held = [span.input for span in runs[run].spans]
            units = reader.units(held, max(size, sizes[run] // MOST_UNITS))
            inside = (even[which == run] * stored - (ends[run] - sizes[run])) / sizes[run]
            for at in np.unique((inside * len(units)).astype(int)).tolist():
                found.append((units[at], sizes[run] * _share_of(units, at)))
    return [found[i] for i in np.random.default_rng(0).permutation(len(found)).tolist()]


def _stored(unit: Unit) -> int:
    return sum(span.input.size for span in unit.spans)


def _share_of(units: Sequence[Unit], at: int) -> float:
    """Give the share that a unit has in the inputs that were cut into `units`."""
    last = units[-1].spans[-1].stop
    stops = [span.stop for span in units[at].spans if span.stop is not None]
    if len(units) == 1 or not last or len(stops) < len(units[at].spans):
        return 1 / len(units)
    return sum(stop - span.start for stop, span in zip(stops, units[at].spans, strict=True)) / last


@dataclass(kw_only=True)
class Part:
    """A reader that leaves a unit where it has given enough of it, and tells how much of it that was."""

    reader: Reader
    in_bytes: bool
    """Documents lie in bytes of their inputs, not in rows."""
    most: int
    """Bytes that are given at the most."""
    longest: int
    """Bytes of one document, where its input is counted in bytes."""
    share: float = 0.0
    """Of the unit, what lies before the place where it was left."""
    bytes: int = 0
    """Of text or tokens, that were given."""
    passed: int = 0
    """Of the documents where they lie: uncompressed bytes, or rows."""
    cut: int = 0
    """Of those, at the ends of documents, that were not given."""

    def inputs(self) -> list[Input]:
        return self.reader.inputs()

    def units(self, inputs: Sequence[Input], size: int) -> list[Unit]:
        return self.reader.units(inputs, size)

    def read(self, unit: Unit, skip: int = 0) -> Iterator[Raw]:
        """Give the documents of a unit until there are enough."""
        span = unit.spans[0]
        divisible = self.in_bytes or (len(unit.spans) == 1 and span.stop is not None)
        self.share = 1.0
        for raw in self.reader.read(unit, skip):
            self.passed += raw.stop - raw.start
            if raw.text is not None:
                yield replace(raw, text=self._counted(raw))
            else:
                self.bytes += 0 if raw.tokens is None else raw.tokens.nbytes
                yield raw
            if divisible and self.bytes >= self.most:
                self.share = self._share(unit, raw)
                return

    def _counted(self, raw: Raw) -> Iterable[str]:
        """Give the text of a document, or its beginning."""
        own = 0
        for block in raw.text or ():
            block = block[: self.longest - own] if self.in_bytes else block
            size = len(block.encode())
            own, self.bytes = own + size, self.bytes + size
            yield block
            if self.in_bytes and own >= self.longest:
                self.cut += max(raw.stop - raw.start - own, 0)
                return

    def _share(self, unit: Unit, raw: Raw) -> float:
        """Tell how much of the unit lies before the end of a document."""
        if not self.in_bytes:
            [span] = unit.spans
            return min((raw.stop - span.start) / ((span.stop or raw.stop) - span.start), 1.0)
        size = sum((span.stop - span.start) if span.stop else span.input.size for span in unit.spans)
        packed = compression(unit.spans[0].input.url)
        passed = stored_before(unit.spans, self.passed) if packed else self.passed
        return min(passed / max(size, 1), 1.0)


def stored_before(spans: Sequence[Span], passed: int) -> int:
    """Give the stored bytes that the first `passed` bytes of compressed inputs, uncompressed, lie in."""
    stored = 0
    for span in spans:
        with opened(span.input.url) as file:
            sips = Sips(file)
            stream = pa.CompressedInputStream(pa.PythonFile(sips, "r"), compression(span.input.url))
            given = 0
            while given < passed and (block := stream.read(min(passed - given, 1 << 16))):
                given += len(block)
            passed, needed, held = passed - given, given, sips.given
            while sips.given == held and (block := stream.read(SIP)):  # what was decoded with it
                given += len(block)
        stored += round(held * needed / max(given, 1))
        if not passed:
            break
    return stored


class Sips(io.RawIOBase):
    """A file that gives little at a time, so that what was read of it is what was needed."""

    def __init__(self, file: BinaryIO) -> None:
        super().__init__()
        self._file, self.given = file, 0

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        content = self._file.read(min(size, SIP) if size >= 0 else SIP)
        self.given += len(content)
        return content


def bytes_of(path: Path) -> int:
    """Give the bytes that an Arrow file's rows take, without what a file of few rows costs."""
    with pa.memory_map(str(path)) as file:
        return pa.ipc.open_file(file).read_all().nbytes


def _summed(told: Iterable[dict[str, dict[str, int]]]) -> dict[str, dict[str, int]]:
    total: dict[str, dict[str, int]] = {}
    for dropped in told:
        for reason, counts in dropped.items():
            kept = total.setdefault(reason, dict.fromkeys(counts, 0))
            total[reason] = {key: kept[key] + counts[key] for key in kept}
    return total
