"""What is there to do for a corpus, who does which part of it, and what is done?

Sources are cut into units in one canonical way; a task `i/n` takes every n-th of them, on any machine, over
processes of its own. One folder beside the corpus holds the files of all tasks; its name tells what they are
made of, so that work of another recipe, tokenizer or input lies elsewhere.
"""

from __future__ import annotations

import fcntl
import json
import multiprocessing
import os
import socket
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Thread
from typing import Any

from ..counts import Counts
from ..encoding.encoder import Encoder, load_encoder
from ..errors import DataError
from ..sources import open_reader
from ..sources.source import Input, Reader, Reading
from ..spec import DataSpec, missing_paths, reading_of
from ..whole import remove_abandoned, write_json
from .changed import refuse_changed
from .manifest import differences, fingerprint
from .tokenise import Job, last_record, read_record, refuse_moved, tokenise_unit

UNFINISHED, CLAIM = "unfinished-", "identity.json"
SECONDS = 0.5
"""Between two looks at what the workers have done."""

Progress = Callable[[str, int, int], None]
"""Called with a phase, how much is done, and how much there is (0: unknown)."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """One of several that share the work: number `number` of `count`, from 1."""

    number: int = 1
    count: int = 1

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"

    @classmethod
    def parse(cls, text: str) -> Task:
        """Read `i/n`; DataError for anything else."""
        number, _, count = text.partition("/")
        if not (number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count)):
            raise DataError(f"--tasks: must be i/n with 1 <= i <= n, got {text}; write for example 1/16")
        return cls(number=int(number), count=int(count))


@dataclass(frozen=True, kw_only=True, eq=False)
class Work:
    """The units of a recipe's sources, and the folder their files go to until they are merged."""

    spec: DataSpec
    encoder: Encoder
    inputs: dict[str, list[Input]]
    left_out: dict[str, Counts]
    """What lies beside the inputs and is not read."""
    jobs: list[Job]
    identity: dict[str, Any]
    folder: Path

    @property
    def parts(self) -> Path:
        """Point at the files of tokens and their records."""
        return self.folder / "parts"

    def of(self, task: Task) -> list[Job]:
        """Give the units of a task; the first one that reads an input hashes it."""
        jobs, met = [], set[tuple[str, str]]()
        for job in self.jobs[task.number - 1 :: task.count]:
            new = {name for name in job.inputs if (job.source, name) not in met}
            met |= {(job.source, name) for name in new}
            jobs.append(replace(job, hashes=frozenset(new)))
        return jobs

    def records(self) -> list[dict[str, Any]]:
        """Read every unit's record; a DataError names those that are missing, and foreign ones."""
        missing = [job for job in self.jobs if not job.done.exists()]
        if missing:
            names = ", ".join(_said(job) for job in missing[:3])
            raise DataError(
                f"{self.folder}: must hold all {len(self.jobs)} units before they are merged, got "
                f"{len(self.jobs) - len(missing)}; missing {names}{', ...' if len(missing) > 3 else ''}; "
                f"run the tasks that were not run, or prepare without --tasks{self._beside()}"
            )
        known = {job.done.name for job in self.jobs}
        present = (path.name for path in self.parts.glob("*.json"))
        foreign = sorted(name for name in present if _unit(name) not in known)
        if foreign:
            raise DataError(
                f"{self.folder}: must hold the {len(self.jobs)} units of this recipe only, got {foreign[0]} "
                f"too; delete {self.folder} and prepare again"
            )
        records = [read_record(job.done, job) for job in self.jobs]
        refuse_changed(self.jobs, records, self.folder)
        return records

    def _beside(self) -> str:
        """Tell in which fields the work that lies beside is another's."""
        others = []
        for claim in sorted(self.folder.parent.glob(f"{UNFINISHED}*/{CLAIM}")):
            if claim.parent != self.folder:
                fields = differences(json.loads(claim.read_text("utf-8")), self.identity)
                others.append(f"{claim.parent} is another's: {'; '.join(fields)}")
        return f" ({', '.join(others)})" if others else ""


def plan_work(spec: DataSpec, encoder: Encoder, store: Path) -> Work:
    """List and cut all inputs; what is wrong with any source is said before anything is written."""
    if missing := missing_paths(spec):
        raise DataError("\n".join(missing))
    readers = {name: _reader(source, name) for name, source in spec.read.items()}
    left_out = {name: Counts() for name in readers}
    inputs = {name: reader.inputs(left_out[name]) for name, reader in readers.items()}
    identity = identity_of(spec, encoder, inputs)
    refuse_other_tokenizers(spec, encoder)
    name = fingerprint(identity)
    folder = store / f"{UNFINISHED}{name[:12]}"
    jobs: list[Job] = []
    for source, reader in readers.items():
        for unit in reader.units(inputs[source], spec.part_bytes):
            jobs.append(
                Job(
                    number=len(jobs),
                    source=source,
                    unit=unit,
                    folder=folder / "parts",
                    identity=name,
                    holdout=spec.holdout,
                    keep_lines=spec.near_duplicates < 1,
                    part_bytes=spec.part_bytes,
                )
            )
    return Work(
        spec=spec,
        encoder=encoder,
        inputs=inputs,
        left_out=left_out,
        jobs=jobs,
        identity=identity,
        folder=folder,
    )


def do_work(work: Work, task: Task, *, workers: int, progress: Progress | None = None) -> None:
    """Tokenise what is missing of a task's units, over processes of this machine."""
    work.parts.mkdir(parents=True, exist_ok=True)
    write_json(work.folder / CLAIM, work.identity)
    with _only_one(work.folder / f".lock-{task.number}-of-{task.count}"):
        for place in (work.folder.parent, work.folder, work.parts):
            remove_abandoned(place)
        records = [record for job in work.of(task) if (record := last_record(job))]
        refuse_changed(work.jobs, records, work.folder)
        jobs = [job for job in work.of(task) if not job.done.exists()]
        if min(workers, len(jobs)) <= 1:
            _alone(work, jobs, progress)
        else:
            _together(work, jobs, min(workers, len(jobs)), progress)
        for source, inputs in work.inputs.items():
            read = {name for job in jobs if job.source == source for name in job.inputs}
            refuse_moved(source, [entry for entry in inputs if entry.name in read])


@contextmanager
def _only_one(path: Path) -> Iterator[None]:
    """Hold a task's lock, which ends with the process."""
    with path.open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            lock.seek(0)
            holder = lock.read().strip() or "another process"
            raise DataError(
                f"{path.parent}: must be written by one process a task, got {holder} at it; wait for it, or "
                "give this one another of --tasks i/n"
            ) from error
        lock.truncate(0)
        lock.write(f"process {os.getpid()} of {socket.gethostname()}\n")
        lock.flush()
        yield


def _alone(work: Work, jobs: Sequence[Job], progress: Progress | None) -> None:
    done = 0

    def count(size: int) -> None:
        nonlocal done
        done += size
        if progress:
            progress("tokenise (bytes)", done, 0)

    for job in jobs:
        tokenise_unit(job, _reader(work.spec.read[job.source], job.source), work.encoder, count)


def _together(work: Work, jobs: Sequence[Job], workers: int, progress: Progress | None) -> None:
    context = multiprocessing.get_context("spawn")
    counter = context.Value("q", 0)
    with ProcessPoolExecutor(
        workers, mp_context=context, initializer=_start, initargs=(work.encoder, counter)
    ) as pool:
        running = {pool.submit(_run, job, work.spec.read[job.source]) for job in jobs}
        try:
            while running:
                done, running = wait(running, timeout=SECONDS, return_when=FIRST_COMPLETED)
                for future in done:
                    future.result()
                if progress:
                    progress("tokenise (bytes)", counter.value, 0)
        except BrokenProcessPool as error:
            raise DataError(
                f"{work.folder}: {workers} workers must stay alive, got one killed (out of memory?); give "
                "fewer --workers, and the same command goes on"
            ) from error
        finally:
            for future in running:
                future.cancel()


_worker: dict[str, Any] = {}
"""What a worker process keeps between units: the encoder, and the bytes that all have done."""


def _start(encoder: Encoder, counter: Any) -> None:
    Thread(target=_end_with_parent, daemon=True).start()
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # one process a core is enough
    _worker.update(encoder=encoder, counter=counter)


def _end_with_parent() -> None:
    """A killed parent tells its workers nothing, and they would go on with what is queued."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _run(job: Job, source: Reading) -> None:
    counter = _worker["counter"]

    def count(size: int) -> None:
        with counter.get_lock():
            counter.value += size

    tokenise_unit(job, _reader(source, job.source), _worker["encoder"], count)


def unfinished(store: Path) -> dict[str, int]:
    """Name the work in a store that no corpus was made of, with its bytes: another recipe's, another input's,
    or what is left of one that was changed."""
    return {
        str(folder): sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        for folder in sorted(store.glob(f"{UNFINISHED}*"))
    }


def identity_of(spec: DataSpec, encoder: Encoder, inputs: dict[str, list[Input]]) -> dict[str, Any]:
    """Give what decides a corpus, but for the content of its inputs, which is hashed while it is read."""
    read = {name: reading_of(source) for name, source in spec.read.items()}
    for section in read.values():
        for key in ("paths", "licence", "on_error"):  # nothing that is read depends on them
            del section[key]
    return {
        "tokenizer": encoder.fingerprint,
        "holdout": spec.holdout,
        "near_duplicates": spec.near_duplicates,
        "part_bytes": spec.part_bytes,
        "order": list(inputs),
        "sources": read,
        "inputs": {
            name: {
                "files": len(entries),
                "bytes": sum(entry.size for entry in entries),
                "names": fingerprint([[entry.name, entry.size] for entry in entries]),
            }
            for name, entries in inputs.items()
        },
    }


def _unit(name: str) -> str:
    """Give the name of a unit's record from that of one of its files."""
    return f"{name.removesuffix('.json').split('-')[0]}.json"


def _said(job: Job) -> str:
    first = job.unit.spans[0]
    return f"unit {job.number} of data.sources.{job.source} ({first.input.name} from {first.start:,})"


def refuse_other_tokenizers(spec: DataSpec, encoder: Encoder) -> None:
    """Refuse token stores of another tokenizer."""
    for name, source in spec.read.items():
        folder = getattr(source, "tokenizer", None)
        if folder is None:
            continue
        theirs = load_encoder(folder, opens=spec.opens, closes=spec.closes)
        if theirs.fingerprint != encoder.fingerprint:
            raise DataError(
                f"data.sources.{name}.tokenizer: must be the model's, since a mix has one tokenizer, got "
                f"{theirs.fingerprint[:12]} from {folder}, not {encoder.fingerprint[:12]}; read the raw text "
                "instead, or name the tokenizer that made the tokens"
            )


def _reader(source: Reading, name: str) -> Reader:
    return open_reader(source, where=f"data.sources.{name}")
