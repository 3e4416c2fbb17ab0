"""One whole run, which the tests of resuming and of converting look at."""

from pathlib import Path
from typing import Any

import pytest
from world.packs import MemoryPlan
from world.training import run

from ropewalk.data import train_tokenizer


@pytest.fixture(scope="session")
def straight(tmp_path_factory: pytest.TempPathFactory, ranks: Any) -> tuple[Path, str]:
    """A run on one rank that was never stopped, and its tokenizer."""
    folder = tmp_path_factory.mktemp("straight")
    train_tokenizer(["rope walk 12"], 300, folder / "tokenizer")
    ranks(1)(run, str(folder / "run"), str(folder / "tokenizer"), -1, {"zero_stage": 1}, MemoryPlan())
    return folder / "run", str(folder / "tokenizer")
