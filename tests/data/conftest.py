"""A tiny tokenizer, folders of text with known content, and plans over them."""

import sysconfig
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ropewalk.data import DataSpec, train_tokenizer

LIBRARY = Path(sysconfig.get_path("stdlib"))


@pytest.fixture(scope="session")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a tokenizer folder of 512 tokens."""
    folder = tmp_path_factory.mktemp("tokenizer")
    names = ("argparse.py", "ast.py", "calendar.py", "csv.py", "dataclasses.py")
    train_tokenizer([(LIBRARY / name).read_text("utf-8") for name in names], 512, folder)
    return folder


def words(number: int, lines: int) -> str:
    """Write a document of code-like lines that no document of another number shares."""
    return "".join(f"    value_{number}_{i} = call(first_{i}, {number})\n" for i in range(lines))


@pytest.fixture(scope="session")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a folder of 60 distinct documents of 1 to 60 lines."""
    folder = tmp_path_factory.mktemp("text")
    for number in range(60):
        (folder / f"d{number:02}.py").write_text(words(number, 1 + number), "utf-8")
    return folder


@pytest.fixture
def spec(text: Path) -> Callable[..., DataSpec]:
    """Build a data section with one source `code` over the text, changed by keywords."""

    def build(
        *, code: dict[str, Any] | None = None, sources: dict[str, Any] | None = None, **fields: Any
    ) -> DataSpec:
        own = {"kind": "files", "paths": [str(text)], "weight": 1.0} | (code or {})
        return DataSpec.model_validate(
            {
                "tokens": 4000,
                "holdout": 0.2,
                "near_duplicates": 0.5,
                **fields,
                "sources": {"code": own, **(sources or {})},
            }
        )

    return build
