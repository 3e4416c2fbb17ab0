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
from typing import BinaryIO

import numpy as np
import pyarrow as pa

from .corpus.build import merge
from .corpus.store import Documents
from .corpus.tokenise import Job, tokenise_unit
from .corpus.work import Work, plan_work
from .counts import Counts
from .encoding.encoder import Encoder
from .sources import open_reader
from .sources.files import compression, opened, unpacked
from .sources.jsonl import JsonlReading
from .sources.source import Input, Raw, Reader, Reading, Span, Unit, gathered
from .sources.text import FilesReading
from .spec import DataSpec
from .whole import passing_folder

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
MOST_HELD_OUT = 1_000_000
"""Held-out documents of a source that are estimated at the most."""
WHOLE, SIP = 1 << 62, 512
NOTHING = np.zeros(0, np.int64)


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
    dropped: Counts
    """While reading."""


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

    def held_out(self, holdout: float) -> np.ndarray:
        """Estimate the int64 tokens of each held-out document of all text: those of a source that was read
        whole, else as many as its share says, evenly from the lengths of both splits."""
        held = Documents(self.corpus.folder, "heldout")
        told = [NOTHING]
        for name, part in self.sources.items():
            lengths = held.lengths()[held.of_source(name)]
            if part.share < 1:
                trained = self.corpus.lengths()[self.corpus.of_source(name)]
                both = np.sort(np.concatenate([lengths, trained]))
                count = min(round(len(both) * holdout / part.share), MOST_HELD_OUT)
                lengths = both[(2 * np.arange(count) + 1) * len(both) // max(2 * count, 1)]
            told.append(lengths)
        return np.concatenate(told)


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
    with passing_folder() as store:
        work = plan_work(spec.model_copy(update={"part_bytes": WHOLE}), encoder, store)
        work.parts.mkdir(parents=True)
        stored = {name: sum(entry.size for entry in inputs) for name, inputs in work.inputs.items()}
        jobs: list[Job] = []
        read = {
            name: _read(name, work, target, stored[name], jobs)
            for name, target in _targets(stored, evenly=spec.mode == "global").items()
        }
        merge(replace(work, jobs=jobs), store / "corpus")
        shares = {name: part.share for name, part in read.items()}
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


def _read(name: str, work: Work, target: int, stored: int, jobs: list[Job]) -> Sampled:
    """Read about `target` bytes of a source, adding what was done to `jobs`."""
    source, inputs, first = work.spec.read[name], work.inputs[name], len(jobs)
    reader = open_reader(source, where=f"data.sources.{name}")
    if target >= stored:
        places = [(unit, 0) for unit in reader.units(inputs, max(target // PLACES, 1))]
        glance = Glance(reader, most=WHOLE, longest=WHOLE)
    else:
        # Lines may be left anywhere without a bias: so they are cut to as many units as there are places.
        size = max((stored if isinstance(source, JsonlReading) else target) // PLACES, 1)
        places = _places(reader, source, inputs, stored, size)
        glance = Glance(reader, most=target // len(places), longest=LONGEST)
    covered = seconds = 0.0
    for unit, held in places:
        if glance.bytes >= OVER * target and target < stored:
            break
        job = replace(work.jobs[0], number=len(jobs), source=name, unit=unit)
        began = time.perf_counter()
        tokenise_unit(job, glance, work.encoder)
        seconds += time.perf_counter() - began
        covered += held * glance.share
        jobs.append(job)
    covered *= 1 - glance.cut / max(glance.passed, 1)
    done = jobs[first:]
    return Sampled(
        stored=stored,
        share=1.0 if target >= stored else min(max(covered / stored, 1e-12), 1.0),
        bytes=glance.bytes,
        seconds=seconds,
        disk=sum(bytes_of(path) for job in done for path in job.folder.glob(f"{job.done.stem}-*.arrow")),
        dropped=Counts.total(json.loads(job.done.read_text("utf-8"))["dropped"] for job in done),
    )


def _places(
    reader: Reader, source: Reading, inputs: Sequence[Input], stored: int, size: int
) -> list[tuple[Unit, float]]:
    """Give units of about `size` bytes from all over the inputs, in no order, with the stored bytes that each
    stands for; only inputs that hold one are opened."""
    places: list[tuple[Unit, float]] = []
    even = (np.arange(PLACES) + 0.5) / PLACES
    if isinstance(source, FilesReading):  # a long file is a unit: over bytes, such would be preferred
        units = reader.units(inputs, size)
        places = [(units[at], _stored(units[at])) for at in np.unique((even * len(units)).astype(int))]
    else:
        runs = gathered((((Span(input=entry),), entry.size) for entry in inputs), size)
        sizes = [_stored(run) for run in runs]
        ends = np.cumsum(sizes)
        which = np.searchsorted(ends, even * stored, side="right")
        for run in np.unique(which).tolist():
            units = reader.units(
                [span.input for span in runs[run].spans], max(size, sizes[run] // MOST_UNITS)
            )
            inside = (even[which == run] * stored - (ends[run] - sizes[run])) / sizes[run]
            for at in np.unique((inside * len(units)).astype(int)).tolist():
                places.append((units[at], sizes[run] / len(units)))
    return [places[i] for i in np.random.default_rng(0).permutation(len(places)).tolist()]


def _stored(unit: Unit) -> int:
    return sum(span.input.size for span in unit.spans)


class Glance:
    """A reader that leaves a unit where it has given enough of it, and tells how much of it that was."""

    def __init__(self, reader: Reader, *, most: int, longest: int) -> None:
        """Give at most `most` bytes of a unit that can be left, and `longest` of a document."""
        self._reader, self._most = reader, most
        self.in_bytes = reader.in_bytes
        self._longest = longest if self.in_bytes else WHOLE
        self.bytes = 0
        """Of text or tokens, that were given of all units."""
        self.passed = self.cut = 0
        """Uncompressed bytes, or rows, of the documents that were met, and of these what was not given of the
        longest."""
        self.share = 1.0
        """Of the last unit, what lies before the place where it was left."""

    def inputs(self, left_out: Counts | None = None) -> list[Input]:
        return self._reader.inputs(left_out)

    def units(self, inputs: Sequence[Input], size: int) -> list[Unit]:
        return self._reader.units(inputs, size)

    def read(self, unit: Unit, skip: int = 0) -> Iterator[Raw]:
        """Give the documents of a unit until there are enough."""
        [span, *more] = unit.spans
        divisible = self.in_bytes or (span.stop is not None and not more)
        before, passed = self.bytes, self.passed
        self.share = 1.0
        for raw in self._reader.read(unit, skip):
            begun = self.bytes
            if raw.text is None:
                self.bytes += 0 if raw.tokens is None else raw.tokens.nbytes
                yield raw
            else:
                yield replace(raw, text=self._beginning(raw.text))
            self.passed += raw.stop - raw.start
            if (given := self.bytes - begun) >= self._longest:
                self.cut += max(raw.stop - raw.start - given, 0)
            if divisible and self.bytes - before >= self._most:
                gone = self.passed - passed if self.in_bytes else raw.stop - span.start
                self.share = self._share(unit, gone)
                return

    def _beginning(self, blocks: Iterable[str]) -> Iterator[str]:
        left = self._longest
        for block in blocks:
            yield (kept := block[:left])
            size = len(kept.encode())
            self.bytes, left = self.bytes + size, left - size
            if left <= 0:
                return

    def _share(self, unit: Unit, passed: int) -> float:
        """Tell how much of the unit has gone by."""
        size = sum((span.stop - span.start) if span.stop else span.input.size for span in unit.spans)
        if self.in_bytes and compression(unit.spans[0].input.url):
            passed = stored_before(unit.spans, passed)
        return min(passed / max(size, 1), 1.0)


def stored_before(spans: Sequence[Span], passed: int) -> int:
    """Give the stored bytes that the first `passed` bytes of compressed inputs, uncompressed, lie in."""
    stored = 0
    for span in spans:
        with opened(span.input.url) as file:
            sips = Sips(file)
            stream = unpacked(sips, compression(span.input.url) or "")
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
