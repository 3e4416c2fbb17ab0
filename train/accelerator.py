"""Which device does DeepSpeed see, and how does it come by the operator that it compiles on CPU?

On CPU, DeepSpeed 0.19.8 builds `deepspeed_shm_comm` with torch's C++ loader when it first takes over a
process group. Only its tensor-parallel inference calls that operator, so training loses nothing without it;
but the loader fails where there is no compiler, and waits for ever on the lock of a build that was killed.
Here the operator is loaded before DeepSpeed asks for it, one process at a time, or switched off with one
line.
"""

import fcntl
import logging
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import torch

OPERATOR = "deepspeed_shm_comm"
log = logging.getLogger(__name__)


@cache
def prepare_deepspeed() -> None:
    """Set what DeepSpeed reads at its first import; on CPU, load its operator or switch it off."""
    if not torch.cuda.is_available():
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
    os.environ.setdefault("TORCH_EXTENSIONS_DIR", str(extensions_folder()))
    if os.environ.get("DS_ACCELERATOR") != "cpu":
        return
    prefer_own_ninja()
    if obstacle := missing_for_a_build() or load_operator(Path(os.environ["TORCH_EXTENSIONS_DIR"])):
        switch_operators_off(obstacle)


def extensions_folder() -> Path:
    """Choose a folder for the operators of this torch: in the environment, else in the user's cache."""
    writable = os.access(sys.prefix, os.W_OK)
    root = Path(sys.prefix) if writable else Path.home() / ".cache" / "ropewalk"
    return root / "torch_extensions" / f"torch-{torch.__version__}"


def prefer_own_ninja() -> None:
    """Put the environment's scripts first on PATH: a ninja that cannot read another's log builds anew."""
    scripts = sysconfig.get_path("scripts")
    if shutil.which("ninja", path=scripts):
        os.environ["PATH"] = os.pathsep.join([scripts, os.environ.get("PATH", "")])


def missing_for_a_build() -> str | None:
    """Name the first thing that building a C++ extension needs and this machine lacks."""
    compiler = (os.environ.get("CXX") or "c++").split()[0]
    if not shutil.which(compiler):
        return f"no C++ compiler ({compiler})"
    if not shutil.which("ninja"):
        return "no ninja"
    header = Path(sysconfig.get_path("include")) / "Python.h"
    return None if header.exists() else f"no {header}"


def load_operator(folder: Path) -> str | None:
    """Build and load the operator under `folder`, or return in one line why that failed."""
    from deepspeed.ops.op_builder.cpu import ShareMemCommBuilder

    try:
        with exclusive(folder):
            remove_dead_locks(folder)
            ShareMemCommBuilder().load(verbose=False)
    except (RuntimeError, OSError, ImportError, subprocess.SubprocessError) as error:
        return f"its build failed ({str(error).partition(chr(10))[0]})"
    return None


@contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Hold `folder` against other processes; the kernel lets go when the holder dies, however it dies."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "ropewalk.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield


def remove_dead_locks(folder: Path) -> None:
    """Delete the lock files of builds that no process of ours still runs."""
    for lock in folder.glob("*/lock"):
        if lock.stat().st_uid == os.getuid() and not is_open_somewhere(lock):
            lock.unlink(missing_ok=True)


def is_open_somewhere(path: Path) -> bool:
    """Ask /proc whether a live process of this user has `path` open, as torch's builder has its lock."""
    target = str(path.resolve())
    for descriptor in Path("/proc").glob("[0-9]*/fd/*"):
        try:
            if os.readlink(descriptor) == target:
                return True
        except OSError:  # the process ended meanwhile, or is another user's
            continue
    return False


def switch_operators_off(obstacle: str) -> None:
    """Tell DeepSpeed that it can compile nothing here, before it probes for itself."""
    import deepspeed.ops

    deepspeed.ops.__dict__["__compatible_ops__"] = {}
    if os.environ.get("RANK", "0") == "0":
        log.warning("DeepSpeed's optional %s is skipped: %s; training does not need it", OPERATOR, obstacle)
