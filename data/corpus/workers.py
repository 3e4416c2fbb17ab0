"""Who tokenises the units of a task, so that no two processes do the same and a kill costs one file?"""

from __future__ import annotations

import fcntl
import multiprocessing
import os
import socket
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..encoding.encoder import Encoder
from ..errors import DataError
from ..sources import open_reader
from ..sources.source import Reading
from .manifest import write_json
from .tokenise import Job, tokenise_unit
from .work import CLAIM, Task, Work

SECONDS = 0.5
"""Between two looks at what the workers have done."""

Progress = Callable[[str, int, int], None]
"""Called with a phase, how much is done, and how much there is (0: unknown)."""


def do_work(work: Work, task: Task, *, workers: int, progress: Progress | None = None) -> None:
    """Tokenise what is missing of a task's units, over processes of this machine."""
    work.parts.mkdir(parents=True, exist_ok=True)
    write_json(work.folder / CLAIM, work.identity)
    with _only_one(work.folder / f".lock-{task.number}-of-{task.count}"):
        jobs = [job for job in work.of(task) if not job.done.exists()]
        if min(workers, len(jobs)) <= 1:
            _alone(work, jobs, progress)
        else:
            _together(work, jobs, min(workers, len(jobs)), progress)


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
        tokenise_unit(job, _reader(job, work.spec.read[job.source]), work.encoder, count)


def _together(work: Work, jobs: Sequence[Job], workers: int, progress: Progress | None) -> None:
    context = multiprocessing.get_context("spawn")
    counter = context.Value("q", 0)
    setup = (work.encoder, counter)
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_start, initargs=setup) as pool:
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


@dataclass
class _Worker:
    """What a worker process keeps between units."""

    encoder: Encoder
    counter: Any


_worker: _Worker | None = None


def _start(encoder: Encoder, counter: Any) -> None:
    global _worker
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # one process a core is enough
    _worker = _Worker(encoder=encoder, counter=counter)


def _run(job: Job, source: Reading) -> None:
    assert _worker is not None
    worker = _worker

    def count(size: int) -> None:
        with worker.counter.get_lock():
            worker.counter.value += size

    tokenise_unit(job, _reader(job, source), worker.encoder, count)


def _reader(job: Job, source: Reading) -> Any:
    return open_reader(source, where=f"data.sources.{job.source}")
