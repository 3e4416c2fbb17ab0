"""Documents as JSON lines, cut into many units and parts of little text."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ropewalk.data import DataSpec, load_encoder
from ropewalk.data.encoding.encoder import Encoder

SMALL = 2_000
"""Bytes of a part."""


@pytest.fixture(scope="session")
def encoder(tokenizer: Path) -> Encoder:
    return load_encoder(tokenizer, engine="tokenizers")


@pytest.fixture
def lines(tmp_path: Path) -> Path:
    """Write 200 documents of 1 to 200 words as JSON lines."""
    path = tmp_path / "text/all.jsonl"
    path.parent.mkdir()
    rows = ({"text": "".join(f"word{n} {i}\n" for i in range(1 + n)), "id": f"n{n}"} for n in range(200))
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def spec(lines: Path) -> Callable[..., DataSpec]:
    def build(*, source: dict[str, Any] | None = None, **fields: Any) -> DataSpec:
        own = {"kind": "jsonl", "paths": [str(lines)], "id": "id", "weight": 1.0} | (source or {})
        return DataSpec.model_validate({"holdout": 0.2, "part_bytes": SMALL, "sources": {"s": own}} | fields)

    return build
