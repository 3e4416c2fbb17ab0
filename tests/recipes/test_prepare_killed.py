"""A killed `prepare` takes its workers with it."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

Ended = subprocess.Popen[bytes]


@pytest.fixture
def started() -> Iterator[Callable[..., Ended]]:
    """Start a command line as a group of processes, of which none outlives the test."""
    running: list[Ended] = []

    def start(*arguments: object) -> Ended:
        code = [sys.executable, "-c", "from ropewalk.recipes.cli import main; main()"]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
        running.append(
            subprocess.Popen(
                [*code, *map(str, arguments)],
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        )
        return running[-1]

    yield start
    for process in running:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def test_workers_end_with_a_killed_prepare(started: Callable[..., Ended], recipe_file: Path, tmp_path: Path):
    """They hold the pipe that it printed to, so its end is theirs."""
    (tmp_path / "text").mkdir()
    for number in range(400):
        (tmp_path / f"text/{number}.txt").write_text(f"the rope is laid along walk {number}\n" * 200)
    given = (f"data.sources.text.paths=[{tmp_path}/text]", "data.part_bytes=9000")
    process = started("prepare", recipe_file, *given, "--workers", 2)
    while not list(tmp_path.glob("run/data/unfinished-*/parts/*.arrow")):
        assert process.poll() is None, process.communicate()[0].decode()
        time.sleep(0.01)
    process.kill()
    process.communicate(timeout=5)
    assert not (tmp_path / "run/data/corpus").exists()
