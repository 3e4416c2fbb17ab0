"""Pools of gloo ranks that live as long as the test session, one pool a world size.

Starting a rank costs seconds, mostly imports; a call to a warm pool costs milliseconds. A body is a
module-level function of a test file, sent as (file, name, arguments): its file is loaded by path, so it works
under pytest's importlib mode. The ranks meet through a file: no port is needed, and pools do not meet.
This file is the pool and, run as a script, the rank.
"""

import contextlib
import faulthandler
import importlib.util
import os
import pickle
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from multiprocessing.connection import Connection, Pipe, wait
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

START_SECONDS = 120.0  # two cores may import torch in four processes at once
CALL_SECONDS = 60.0
PEER_SECONDS = 1.0  # what peers of a failed rank get before they count as stuck
Replies = dict[int, tuple[bool, Any]]  # by rank: it returned, and what; or it did not, and why
ENVIRONMENT = {
    "DS_ACCELERATOR": "cpu",
    "GLOO_SOCKET_IFNAME": "lo",
    "OMP_NUM_THREADS": "1",
    "PYTHONFAULTHANDLER": "1",
}


class RankError(AssertionError):
    """Say which rank raised, died or hung, and where it stood."""


class Ranks:
    """The pools of one session: `ranks(2)(body, *args)` lists what `body(*args)` returned on either rank."""

    def __init__(self) -> None:
        self.pools: dict[int, Pool] = {}

    def __call__(self, world: int, *, timeout: float = CALL_SECONDS) -> Callable[..., list[Any]]:
        pool = self.pools.setdefault(world, Pool(world))
        return partial(pool.run, timeout)

    def close(self) -> None:
        for pool in self.pools.values():
            pool.stop()


class Pool:
    """A world of rank processes; started at its first call and anew after a failure."""

    def __init__(self, world: int) -> None:
        self.world = world
        self.processes: list[subprocess.Popen[bytes]] = []
        self.links: list[Connection] = []
        self.folder = Path()

    def run(self, timeout: float, body: Callable[..., Any], *args: Any) -> list[Any]:
        """Run `body` on every rank; RankError unless all return within `timeout` seconds."""
        message = pickle.dumps((*address(body), pickle.dumps(args)))
        if not self.processes:
            self.start()
        for link in self.links:
            with contextlib.suppress(OSError):  # a rank that died since is reported by its reply
                link.send_bytes(message)
        try:
            replies = self.collect(timeout)
        except BaseException:
            self.stop()  # an interrupt: late answers must not meet the next call
            raise
        if len(replies) < self.world or not all(ok for ok, _ in replies.values()):
            self.report(body, timeout, replies)
        return [replies[rank][1] for rank in range(self.world)]

    def start(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="ranks-"))
        for rank in range(self.world):
            ours, theirs = Pipe()
            facts = [self.world, rank, theirs.fileno(), self.folder]
            with (self.folder / f"rank-{rank}.log").open("wb") as output:
                process = subprocess.Popen(
                    [sys.executable, "-m", __name__, *map(str, facts)],
                    env={**os.environ, **ENVIRONMENT, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
                    pass_fds=[theirs.fileno()],
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    start_new_session=True,
                )
            theirs.close()
            self.processes.append(process)
            self.links.append(ours)
        ready = self.collect(START_SECONDS)
        if len(ready) < self.world or not all(ok for ok, _ in ready.values()):
            late = [rank for rank in range(self.world) if rank not in ready]
            self.fail(f"{len(ready)} of {self.world} ranks started in {START_SECONDS:g} s", ready, late)

    def collect(self, timeout: float) -> Replies:
        """Gather (returned, value or traceback) by rank; stop waiting soon after one raised or died."""
        replies: Replies = {}
        end = time.monotonic() + timeout
        open_links = {link: rank for rank, link in enumerate(self.links)}
        while open_links and (left := end - time.monotonic()) > 0:
            for link in wait(list(open_links), left):
                assert isinstance(link, Connection)
                rank = open_links.pop(link)
                replies[rank] = self.reply(rank, link)
                if not replies[rank][0]:
                    end = min(end, time.monotonic() + PEER_SECONDS)
        return replies

    def reply(self, rank: int, link: Connection) -> tuple[bool, Any]:
        try:
            return pickle.loads(link.recv_bytes())
        except (EOFError, OSError):
            code = self.processes[rank].wait()
            log = (self.folder / f"rank-{rank}.log").read_text(errors="replace")
            return False, f"its process ended with code {code}; its last output:\n{log[-3000:]}"

    def report(self, body: Callable[..., Any], timeout: float, replies: Replies) -> NoReturn:
        silent = [rank for rank in range(self.world) if rank not in replies]
        raised = [rank for rank, (ok, _) in sorted(replies.items()) if not ok]
        what = f"raised on rank {raised}" if raised else f"hung beyond {timeout:g} s on rank {silent}"
        self.fail(f"{body.__qualname__} {what} of {self.world}", replies, silent)

    def fail(self, summary: str, replies: Replies, silent: list[int]) -> NoReturn:
        """Raise with what every failed rank raised and where every silent one stands; end the pool."""
        told = [f"--- rank {rank} raised\n{text}" for rank, (ok, text) in sorted(replies.items()) if not ok]
        told += [f"--- rank {rank} was still in\n{self.stack(rank)}" for rank in silent]
        self.stop()
        raise RankError("\n".join([summary, *told]))

    def stack(self, rank: int) -> str:
        """Ask a silent rank for its stack; the handler answers even from inside a collective."""
        dump = self.folder / f"rank-{rank}.stack"
        with contextlib.suppress(ProcessLookupError):
            self.processes[rank].send_signal(signal.SIGUSR1)
        end = time.monotonic() + 2
        while time.monotonic() < end and not (dump.exists() and dump.read_text().strip()):
            time.sleep(0.02)
        time.sleep(0.05)  # let the handler finish its last line
        return dump.read_text() if dump.exists() else "nothing: it gave no stack"

    def stop(self) -> None:
        for process in self.processes:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # with what it started, such as a compiler
            process.wait()
        for link in self.links:
            link.close()
        if self.processes:
            shutil.rmtree(self.folder, ignore_errors=True)
        self.processes, self.links = [], []


def address(body: Callable[..., Any]) -> tuple[str, str, str]:
    """Say where a rank finds `body`: its file, the name of that file's module here, its own name."""
    assert "<" not in body.__qualname__, (
        f"a rank's body must be a module-level function, got {body.__qualname__}"
    )
    return body.__code__.co_filename, body.__module__, body.__qualname__


def main(world: int, rank: int, link: Connection, folder: Path) -> None:
    """Join the world as `rank`, then run bodies until the pool closes the link."""
    os.environ.update(
        RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(world), LOCAL_WORLD_SIZE=str(world)
    )
    with (folder / f"rank-{rank}.stack").open("w") as dump:
        faulthandler.register(signal.SIGUSR1, file=dump, all_threads=True)
        import torch
        import torch.distributed as dist

        torch.set_num_threads(1)
        store = f"file://{folder}/store"
        dist.init_process_group(
            "gloo", init_method=store, rank=rank, world_size=world, timeout=timedelta(minutes=10)
        )
        link.send_bytes(pickle.dumps((True, None)))
        modules: dict[str, ModuleType] = {}
        with contextlib.suppress(EOFError):
            while True:
                answer = perform(link.recv_bytes(), modules)
                link.send_bytes(answer)


def perform(message: bytes, modules: dict[str, ModuleType]) -> bytes:
    """Run one body from fresh generators and default dtype; return its pickled result or traceback."""
    import torch

    torch.manual_seed(0)
    torch.set_default_dtype(torch.float32)
    try:
        path, module_name, name, payload = pickle.loads(message)
        module = modules.get(path) or load(path, module_name)
        modules[path] = module
        return pickle.dumps((True, getattr(module, name)(*pickle.loads(payload))))
    except BaseException:
        return pickle.dumps((False, traceback.format_exc()))


def load(path: str, module_name: str) -> ModuleType:
    """Import a test file under its name in the session, so that its own types unpickle on both sides."""
    spec = importlib.util.spec_from_file_location(module_name, path)
    assert spec is not None, f"{path} cannot be imported"
    assert spec.loader is not None, f"{path} cannot be imported"
    module = importlib.util.module_from_spec(spec)
    parents = module_name.split(".")[:-1]
    for depth in range(1, len(parents) + 1):  # pickle imports them by name
        name = ".".join(parents[:depth])
        sys.modules.setdefault(name, ModuleType(name))
    sys.modules[module_name] = module
    spec.loader.exec_module(module)
    return module


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Connection(int(sys.argv[3])), Path(sys.argv[4]))
