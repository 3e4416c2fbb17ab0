"""The room works with the oldest transformers 5, with the newest two, and with the newest torch at hand."""

import os
import subprocess
import sys
from importlib.metadata import version as installed
from pathlib import Path

import pytest

HERE = Path(__file__).parent
FILES = ("test_generation.py", "test_install.py")
OLDER_HUB = ("huggingface-hub<2", "httpx", "httpcore", "h11", "anyio", "sniffio", "typer-slim", "shellingham")
BESIDE = {"5.0.0": ("tokenizers<0.23", *OLDER_HUB), "5.23.0": (), "5.24.0": ()}
"what a transformers needs beside it, where that is not what is installed"
TORCH = ("2.15.0", "2.14.1", "2.14.0")
"newest first; only a build for CPUs, `+cpu`, comes without gigabytes of CUDA"


def install(folder: Path, *wanted: str) -> str:
    """Install packages into a folder; return why not, empty if they are there."""
    pip = (sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(folder), *wanted)
    ran = subprocess.run(pip, capture_output=True, text=True)
    errors = [line for line in ran.stderr.splitlines() if line.startswith("ERROR")]
    return [*errors, "pip failed"][0] if ran.returncode else ""


def check_with(folder: Path, package: str, version: str) -> None:
    """Run the room's tests with what was installed in a folder."""
    env = os.environ | {"PYTHONPATH": os.pathsep.join((str(folder), os.environ.get("PYTHONPATH", "")))}
    asked = (sys.executable, "-c", f"import {package}; print({package}.__version__)")
    assert subprocess.run(asked, env=env, capture_output=True, text=True).stdout.strip() == version
    files = (str(HERE / name) for name in FILES)
    run = (sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *files)
    ran = subprocess.run(run, env=env, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout[-4000:]


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("version", BESIDE)
def test_another_transformers_5(tmp_path: Path, version: str) -> None:
    if version == installed("transformers"):
        pytest.skip(f"transformers {version} is installed: all other tests run with it")
    if reason := install(tmp_path, f"transformers=={version}", *BESIDE[version]):
        pytest.skip(f"transformers {version}: {reason}")
    check_with(tmp_path, "transformers", version)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_newest_torch(tmp_path: Path) -> None:
    """By its build for CPUs, named exactly: pip would take one for GPUs that is newer."""
    reasons = []
    for version in (f"{release}+cpu" for release in TORCH):
        if version == installed("torch"):
            pytest.skip(f"torch {version} is installed: all other tests run with it")
        if not (reason := install(tmp_path, f"torch=={version}")):
            return check_with(tmp_path, "torch", version)
        reasons.append(f"torch {version}: {reason}")
    pytest.skip("; ".join(reasons))
