"""Text becomes ids and text again, nothing in a document acts as a special token, and bad folders are
refused."""

import hashlib
import json
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer
from world.encoding_shapes import read, write

from ropewalk.data import DataError, Encoder, load_encoder


@pytest.fixture(scope="module")
def encoder(tokenizer: Path) -> Encoder:
    return load_encoder(tokenizer)


@given(text=st.text(max_size=60))
def test_encoding_loses_nothing(encoder: Encoder, text: str):
    (tokens,) = encoder.encode([text])
    assert encoder.decode(tokens) == text
    assert tokens.dtype == np.uint32


def test_ids_are_those_of_transformers(encoder: Encoder, tokenizer: Path):
    text = "def f(x):\n    return 'l\u00e9' + 123\n" * 3
    theirs = AutoTokenizer.from_pretrained(tokenizer)(text, add_special_tokens=False)["input_ids"]
    assert encoder.encode([text])[0].tolist() == theirs
    assert load_encoder(tokenizer, engine="tokenizers").encode([text])[0].tolist() == theirs


def test_every_digit_is_a_token(encoder: Encoder):
    (tokens,) = encoder.encode(["98765"])
    assert encoder.backend.decode_each(tokens) == list("98765")


def test_a_special_token_in_a_document_is_text(encoder: Encoder):
    (tokens,) = encoder.encode(["a <|endoftext|> b"])
    assert encoder.padding not in tokens


def test_special_tokens_are_decoded_by_name(encoder: Encoder):
    assert encoder.decode([encoder.padding]) == "<|endoftext|>"


def test_newlines_are_known(encoder: Encoder):
    starts, ends = encoder.newlines()
    (tokens,) = encoder.encode(["x\n    y\n"])
    assert len(starts) == encoder.vocabulary == 512
    assert starts[tokens].any()
    assert ends[tokens[-1]]
    assert not starts[tokens[0]]


def test_a_tokenizer_folder_is_read_by_transformers(tokenizer: Path):
    loaded = AutoTokenizer.from_pretrained(tokenizer)
    assert loaded.eos_token_id == loaded.bos_token_id == loaded.pad_token_id == 0
    config = json.loads((tokenizer / "tokenizer_config.json").read_text())
    assert config["tokenizer_class"] == "PreTrainedTokenizerFast"  # the name that transformers 4.57 knows


def test_truncation_in_a_tokenizer_file_is_ignored(tokenizer: Path, tmp_path: Path):
    fields = read(tokenizer / "tokenizer.json")
    fields["truncation"] = {"direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 0}
    write(tmp_path / "tokenizer.json", fields)
    shutil.copy(tokenizer / "tokenizer_config.json", tmp_path)
    for engine in ("tiktoken", "tokenizers"):
        (tokens,) = load_encoder(tmp_path, engine=engine).encode(["one two three four five six seven"])
        assert len(tokens) > 4


@pytest.mark.parametrize(
    ("opens", "closes", "before", "after"),
    [
        ("", "eos", "", "<|endoftext|>"),
        ("bos", "", "<|endoftext|>", ""),
        ("text:<s>", "text:\n\n", "<s>", "\n\n"),
    ],
)
def test_what_stands_around_a_document(tokenizer: Path, opens: str, closes: str, before: str, after: str):
    encoder = load_encoder(tokenizer, opens=opens, closes=closes)
    assert encoder.opens.dtype == encoder.closes.dtype == np.uint32
    assert (encoder.decode(encoder.opens), encoder.decode(encoder.closes)) == (before, after)
    assert encoder.padding == 0
    if opens.startswith("text"):
        assert len(encoder.opens) > 1  # the special token of that name, if any, is not meant


def test_a_fingerprint_tells_ids_apart_and_not_engines(tokenizer: Path):
    content = (tokenizer / "tokenizer.json").read_bytes()
    usual = load_encoder(tokenizer).fingerprint
    assert usual == hashlib.sha256(content + b"0").hexdigest()
    assert usual == load_encoder(tokenizer, engine="tokenizers", closes="bos").fingerprint
    words = [("", ""), ("bos", "eos"), ("", "text:x"), ("text:x", "")]
    assert len({usual, *(load_encoder(tokenizer, opens=o, closes=c).fingerprint for o, c in words)}) == 5


@pytest.mark.parametrize("where", ["tokenizer_config.json", "special_tokens_map.json"])
@pytest.mark.parametrize("token", ["<|endoftext|>", {"content": "<|endoftext|>", "special": True}])
def test_names_of_special_tokens(tokenizer: Path, tmp_path: Path, where: str, token: Any):
    shutil.copy(tokenizer / "tokenizer.json", tmp_path)
    write(tmp_path / where, {"bos_token": token})
    encoder = load_encoder(tmp_path, closes="bos")
    assert encoder.closes.tolist() == [encoder.padding] == [0]


def test_a_class_that_knows_its_tokens(tokenizer: Path, tmp_path: Path):
    """GPT-2's own folder names no special token in any file of the tokenizer."""
    shutil.copy(tokenizer / "tokenizer.json", tmp_path)
    write(tmp_path / "tokenizer_config.json", {"tokenizer_class": "GPT2Tokenizer"})
    assert load_encoder(tmp_path).padding == 0


def test_a_folder_of_merges_is_read_through_transformers(tokenizer: Path, tmp_path: Path, encoder: Encoder):
    model = read(tokenizer / "tokenizer.json")["model"]
    write(tmp_path / "vocab.json", model["vocab"])
    merges = [" ".join(pair) for pair in model["merges"]]
    (tmp_path / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n", "utf-8")
    write(
        tmp_path / "tokenizer_config.json", {"tokenizer_class": "GPT2Tokenizer", "eos_token": "<|endoftext|>"}
    )
    other = load_encoder(tmp_path)
    assert (other.engine, other.padding) == ("tiktoken", 0)
    text = "for name in names:\n    print(name)\n"
    assert other.encode([text])[0].tolist() == encoder.encode([text])[0].tolist()
    assert pickle.loads(pickle.dumps(other)).encode([text])[0].tolist() == other.encode([text])[0].tolist()


def test_neither_torch_nor_transformers_is_imported(tokenizer: Path):
    code = (
        "import sys; from ropewalk.data.encoding.encoder import load_encoder;"
        f"load_encoder({str(tokenizer)!r}).encode(['x']);"
        "print({'torch', 'transformers'} & set(sys.modules))"
    )
    assert (
        subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, check=True, text=True).stdout
        == "set()\n"
    )


@pytest.mark.parametrize("engine", ["tiktoken", "tokenizers"])
def test_a_worker_gets_the_same_encoder(tokenizer: Path, engine: str, monkeypatch: pytest.MonkeyPatch):
    encoder = load_encoder(tokenizer, opens="text:<s>", engine=engine)
    sent = pickle.dumps(encoder)
    assert len(sent) < 2000
    for trial in ("tried", "cut_places"):
        monkeypatch.setattr(f"ropewalk.data.encoding.encoder.{trial}", lambda *_: pytest.fail("tried again"))
    arrived = pickle.loads(sent)
    assert (arrived.engine, arrived.why, arrived.places) == (encoder.engine, encoder.why, encoder.places)
    assert arrived.opens.tolist() == encoder.opens.tolist()
    text = "a \U00011de0 <|endoftext|>\n\nb"
    assert arrived.encode([text])[0].tolist() == encoder.encode([text])[0].tolist()


def test_a_tokenizer_that_changed_meanwhile(tokenizer: Path, tmp_path: Path):
    shutil.copytree(tokenizer, tmp_path, dirs_exist_ok=True)
    sent = pickle.dumps(load_encoder(tmp_path))
    with (tmp_path / "tokenizer.json").open("a") as file:
        file.write("\n")
    with pytest.raises(DataError, match=r"tokenizer that the run began with, got another; restore"):
        pickle.loads(sent)


def _no_config(folder: Path) -> None:
    (folder / "tokenizer_config.json").unlink()


def _tell(text: str, name: str = "tokenizer_config.json") -> Callable[[Path], Any]:
    return lambda folder: (folder / name).write_text(text)


def _only(word: str) -> Callable[[Path], Any]:
    return _tell(json.dumps({f"{word}_token": "<|endoftext|>"}))


def _slow(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()
    (folder / "vocab.txt").write_text("[UNK]\n")
    write(
        folder / "tokenizer_config.json",
        {"tokenizer_class": "BertJapaneseTokenizer", "word_tokenizer_type": "basic"},
    )


def _unsplit(folder: Path) -> None:
    write(folder / "tokenizer.json", read(folder / "tokenizer.json") | {"pre_tokenizer": None})


BAD: dict[str, tuple[Callable[[Path], Any], dict[str, Any], tuple[str, ...]]] = {
    "no folder": (shutil.rmtree, {}, ("tokenizer", "folder", "check")),
    "no tokenizer": (lambda f: [p.unlink() for p in f.iterdir()], {}, ("it: ", "got none", "fetch")),
    "a slow one": (_slow, {}, ("fast", "BertJapaneseTokenizer", "convert")),
    "no EOS and no BOS": (_tell("{}"), {}, ("EOS or BOS", "neither", "eos_token")),
    "no config": (_no_config, {}, ("EOS or BOS", "neither", "eos_token")),
    "EOS asked, BOS there": (_only("bos"), {}, ("data.closes", "'eos'", "bos")),
    "BOS asked, EOS there": (_only("eos"), {"opens": "bos"}, ("data.opens", "'bos'", "eos")),
    "EOS unknown": (_tell('{"eos_token": "<|x|>"}'), {}, ("eos_token", "<|x|>", "tokenizer_config.json")),
    "config no JSON": (_tell("{"), {}, ("tokenizer_config.json", "JSON", "restore")),
    "tokenizer.json broken": (_tell("{", "tokenizer.json"), {}, ("tokenizer.json", "readable", "anew")),
    "opens unknown": (lambda _: None, {"opens": "<s>"}, ("data.opens", "'<s>'", "text:<s>")),
    "closes unknown": (lambda _: None, {"closes": "EOS"}, ("data.closes", "'EOS'", "bos, eos")),
    "engine unknown": (lambda _: None, {"engine": "fast"}, ("engine", "'fast'", "tiktoken")),
    "engine unlike": (_unsplit, {"engine": "tiktoken"}, ("tiktoken", "ByteLevel", "auto")),
    "no model": (lambda _: None, {"engine": "sentencepiece"}, ("tokenizer.model", "got none", "add")),
    "model broken": (_tell("x", "tokenizer.model"), {"engine": "sentencepiece"}, ("readable", "anew")),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_input(tokenizer: Path, tmp_path: Path, case: str):
    change, options, said = BAD[case]
    folder = tmp_path / "it"
    shutil.copytree(tokenizer, folder)
    change(folder)
    with pytest.raises(DataError) as caught:
        load_encoder(folder, **options)
    assert not [part for part in said if part not in str(caught.value)]
    assert str(caught.value).count(" must ") == 1
