"""DeepSpeed's operator is built once an environment, skipped without a compiler, never waited for in vain."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ropewalk.train import accelerator

STARTS_AN_ENGINE = """
import os, torch, torch.distributed as dist
os.environ.update(RANK="0", WORLD_SIZE="1", LOCAL_RANK="0")
dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
from ropewalk.train.accelerator import prepare_deepspeed
prepare_deepspeed()
prepare_deepspeed()
import deepspeed, deepspeed.comm
deepspeed.comm.init_distributed(verbose=False)
assert deepspeed.get_accelerator().device_name() == "cpu"
print("operator:", deepspeed.comm.comm.cdb.shm_comm_op is not None)
"""
HOLDS_THE_LOCK = """
import sys, time
from torch.utils.file_baton import FileBaton
assert FileBaton(sys.argv[1]).try_acquire()
print("held", flush=True)
time.sleep(600)
"""


Engine = Callable[..., tuple[str, str]]


@pytest.fixture
def engines() -> Iterator[Engine]:
    """Run processes that take DeepSpeed into use; neither they nor their compilers outlive the test."""
    started: list[subprocess.Popen[str]] = []

    def start(folder: Path, count: int = 1, **environment: str) -> tuple[str, str]:
        settings = {"DS_ACCELERATOR": "cpu", "TORCH_EXTENSIONS_DIR": str(folder), **environment}
        for _ in range(count):
            process = subprocess.Popen(
                [sys.executable, "-c", STARTS_AN_ENGINE],
                env={**os.environ, **settings},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                start_new_session=True,
            )
            started.append(process)
        told = [process.communicate() for process in started[-count:]]
        assert not any(process.returncode for process in started), told
        return "".join(out for out, _ in told), "".join(err for _, err in told)

    yield start
    for process in started:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def test_one_line_without_a_compiler(engines: Engine, tmp_path: Path) -> None:
    out, err = engines(tmp_path / "operators", PATH=str(tmp_path), CXX="")
    assert "operator: False" in out
    lines = [line for line in err.splitlines() if "deepspeed_shm_comm" in line]
    assert len(lines) == 1
    assert "no C++ compiler (c++)" in lines[0]


def test_one_line_when_the_build_fails(engines: Engine, tmp_path: Path) -> None:
    compiler = tmp_path / "c++"
    compiler.write_text("#!/bin/sh\nexit 1\n")
    compiler.chmod(0o755)
    out, err = engines(tmp_path / "operators", CXX=str(compiler))
    assert "operator: False" in out
    assert len([line for line in err.splitlines() if "its build failed" in line]) == 1
    assert not list((tmp_path / "operators").glob("*/lock"))


@pytest.mark.slow
@pytest.mark.timeout(900)  # half a minute on two free cores
@pytest.mark.skipif(accelerator.missing_for_a_build() is not None, reason="no C++ toolchain here")
def test_processes_build_it_once_past_a_dead_lock(engines: Engine, tmp_path: Path) -> None:
    lock = tmp_path / accelerator.OPERATOR / "lock"
    lock.parent.mkdir()
    lock.touch()
    out, _ = engines(tmp_path, 2)
    assert out.count("operator: True") == 2
    assert not lock.exists()
    [library] = lock.parent.glob("*.so")
    built = library.stat().st_mtime_ns
    assert "operator: True" in engines(tmp_path)[0]
    assert library.stat().st_mtime_ns == built


def test_a_live_lock_stays_and_a_killed_one_goes(tmp_path: Path) -> None:
    lock = tmp_path / "operator" / "lock"
    lock.parent.mkdir()
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDS_THE_LOCK, str(lock)], stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    with holder.stdout:
        assert holder.stdout.readline() == "held\n"
    accelerator.remove_dead_locks(tmp_path)
    assert lock.exists()
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    accelerator.remove_dead_locks(tmp_path)
    assert not lock.exists()


def test_exclusive_ends_with_its_holder(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from ropewalk.train.accelerator import exclusive\n"
        "with exclusive(Path(sys.argv[1])):\n    print('held', flush=True); time.sleep(600)"
    )
    holder = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    with holder.stdout:
        assert holder.stdout.readline() == "held\n"
    holder.kill()
    holder.wait()
    started = time.monotonic()
    with accelerator.exclusive(tmp_path):
        assert time.monotonic() - started < 5


def test_operators_live_inside_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    assert accelerator.extensions_folder().is_relative_to(sys.prefix)
    assert torch.__version__ in accelerator.extensions_folder().name
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert accelerator.extensions_folder().is_relative_to(Path.home())


@pytest.mark.parametrize(
    ("present", "named"),
    [([], "c++"), (["c++"], "ninja"), (["c++", "ninja"], "Python.h")],
)
def test_names_what_a_build_lacks(
    present: list[str], named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in present:
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setattr(accelerator.sysconfig, "get_path", lambda name: str(tmp_path))
    assert named in str(accelerator.missing_for_a_build())


def test_takes_the_ninja_of_the_environment_activated_or_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "ninja").write_text("#!/bin/sh\n")
    (tmp_path / "ninja").chmod(0o755)
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr(accelerator.sysconfig, "get_path", lambda name: str(tmp_path))
    accelerator.prefer_own_ninja()
    assert os.environ["PATH"] == f"{tmp_path}{os.pathsep}/nowhere"
