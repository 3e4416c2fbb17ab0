"""A folder for each shape of tokenizer, and its encoders, made once."""

from pathlib import Path

import pytest
from tokenizers import normalizers
from world.encoding_shapes import SHAPES, build

from ropewalk.data import Encoder, load_encoder


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Give a tokenizer folder for each shape."""
    parent = tmp_path_factory.mktemp("shapes")
    return {
        name: build(parent / name, shape(), normalizer=normalizers.NFC() if name == "nfc" else None)
        for name, shape in SHAPES.items()
    }


@pytest.fixture(scope="session")
def both(folders: dict[str, Path]) -> dict[str, tuple[Encoder, Encoder]]:
    """Give each by tiktoken and by tokenizers."""
    return {
        name: (load_encoder(folder, engine="tiktoken"), load_encoder(folder, engine="tokenizers"))
        for name, folder in folders.items()
    }


@pytest.fixture(scope="session")
def encoders(both: dict[str, tuple[Encoder, Encoder]]) -> dict[str, Encoder]:
    return {name: fast for name, (fast, _) in both.items()}
