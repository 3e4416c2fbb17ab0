"""The room works with the oldest transformers 5, and with the last one before the cache had its new name."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
FILES = ("test_generation.py", "test_install.py")
OLDER_HUB = ("huggingface-hub<2", "httpx", "httpcore", "h11", "anyio", "sniffio", "typer-slim", "shellingham")
BESIDE = {"5.0.0": ("tokenizers<0.23", *OLDER_HUB), "5.23.0": ()}


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("version", BESIDE)
def test_another_transformers_5(tmp_path: Path, version: str) -> None:
    """Installed beside; skipped where pip reaches nothing."""
    wanted = (f"transformers=={version}", *BESIDE[version])
    pip = (sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(tmp_path), *wanted)
    if subprocess.run(pip, capture_output=True).returncode:
        pytest.skip(f"pip cannot install transformers {version} here")
    env = os.environ | {"PYTHONPATH": str(tmp_path)}
    asked = (sys.executable, "-c", "import transformers; print(transformers.__version__)")
    assert subprocess.run(asked, env=env, capture_output=True, text=True).stdout.strip() == version
    run = (
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        *(str(HERE / name) for name in FILES),
    )
    ran = subprocess.run(run, env=env, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout[-4000:]
