"""What `make` does is said before it is done, and pip says nothing unless it fails."""

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def planned() -> list[str]:
    """Each command of `make demo` where nothing is installed yet."""
    command = ["make", "--dry-run", "--no-print-directory", "VENV=.venv-of-nobody", "demo"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


@pytest.mark.parametrize("part", ["-m venv", "pip install", "recipes check", "prepare", "extend.py"])
def test_a_step_has_its_line_before_it(planned: list[str], part: str) -> None:
    [at] = [index for index, line in enumerate(planned) if part in line and not line.startswith("echo")]
    assert planned[at - 1].startswith('echo "[')


def test_pip_is_quiet_and_the_end_says_how_the_command_is_found(planned: list[str]) -> None:
    assert all("--quiet" in line for line in planned if "pip install" in line)
    assert "bin/activate" in planned[-1]
