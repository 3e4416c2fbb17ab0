"""Text becomes ids and text again, and nothing in a document acts as a special token."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer

from ropewalk.data import Encoder, load_encoder
from ropewalk.data.encoding.encoder import batches


@pytest.fixture(scope="module")
def encoder(tokenizer: Path) -> Encoder:
    return load_encoder(tokenizer)


@given(text=st.text(max_size=60))
def test_encoding_loses_nothing(encoder: Encoder, text: str):
    (tokens,) = encoder.encode([text])
    assert encoder.backend.decode(tokens.tolist(), skip_special_tokens=False) == text
    assert tokens.dtype == np.uint32


def test_every_digit_is_a_token(encoder: Encoder):
    (tokens,) = encoder.encode(["98765"])
    assert [encoder.backend.id_to_token(i) for i in tokens] == list("98765")


def test_a_special_token_in_a_document_is_text(encoder: Encoder):
    (tokens,) = encoder.encode(["a <|endoftext|> b"])
    assert encoder.separator not in tokens


def test_newlines_are_known(encoder: Encoder):
    starts, ends = encoder.newlines()
    (tokens,) = encoder.encode(["x\n    y\n"])
    assert starts[tokens].any()
    assert ends[tokens[-1]]
    assert not starts[tokens[0]]


def test_a_tokenizer_folder_is_read_by_transformers(tokenizer: Path):
    loaded = AutoTokenizer.from_pretrained(tokenizer)
    assert loaded.eos_token_id == loaded.bos_token_id == loaded.pad_token_id == 0
    config = json.loads((tokenizer / "tokenizer_config.json").read_text())
    assert config["tokenizer_class"] == "PreTrainedTokenizerFast"  # the name that transformers 4.57 knows


def test_truncation_in_a_tokenizer_file_is_ignored(tokenizer: Path, tmp_path: Path):
    fields = json.loads((tokenizer / "tokenizer.json").read_text())
    fields["truncation"] = {"direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 0}
    (tmp_path / "tokenizer.json").write_text(json.dumps(fields))
    (tmp_path / "tokenizer_config.json").write_text((tokenizer / "tokenizer_config.json").read_text())
    (tokens,) = load_encoder(tmp_path).encode(["one two three four five six seven"])
    assert len(tokens) > 4


@given(sizes=st.lists(st.integers(1, 30)))
def test_batches_keep_order_and_limit(sizes: list[int]):
    made = list(batches(((size, size) for size in sizes), limit=20))
    assert [size for batch in made for size in batch] == sizes
    assert all(sum(batch) <= 20 or len(batch) == 1 for batch in made)
