"""A comparison small enough to run in a test, in a small world of its own."""

from pathlib import Path

import pytest
import yaml
from world.small import write_world
from world.small_comparison import comparison_of


@pytest.fixture(scope="session")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The recipe file in that world, where nothing is prepared at first."""
    folder = tmp_path_factory.mktemp("world")
    write_world(folder)
    file = folder / "compare.yaml"
    file.write_text(yaml.safe_dump(comparison_of(folder)))
    return file
