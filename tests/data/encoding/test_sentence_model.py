"""A SentencePiece model is read as it is, whole documents at a time."""

import io
import shutil
import sysconfig
from pathlib import Path

import pytest
from sentencepiece import SentencePieceProcessor, SentencePieceTrainer

from ropewalk.data import DataError, Encoder, load_encoder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a folder with a BPE model as Llama 2 has it: bytes for what is unknown, nothing normalised."""
    model = io.BytesIO()
    lines = (Path(sysconfig.get_path("stdlib")) / "argparse.py").read_text("utf-8").splitlines()
    SentencePieceTrainer.train(
        sentence_iterator=iter(lines), model_writer=model, vocab_size=600, model_type="bpe",
        byte_fallback=True, normalization_rule_name="identity", remove_extra_whitespaces=False,
        minloglevel=2, num_threads=1,
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("sentences")
    (folder / "tokenizer.model").write_bytes(model.getvalue())
    return folder


@pytest.fixture(scope="module")
def encoder(folder: Path) -> Encoder:
    return load_encoder(folder, opens="bos")


TEXTS = ["def f(x):\n    return x  # 1", "", " a  b", "\u4e2d\u6587 \U0001f600\n\n", "a </s> b <s>"]


@pytest.mark.parametrize("text", TEXTS)
def test_ids_are_the_models_and_text_comes_back(encoder: Encoder, folder: Path, text: str):
    (tokens,) = encoder.encode([text])
    processor = SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))
    assert tokens.tolist() == processor.encode(text)
    assert encoder.decode(tokens) == text
    assert not {processor.bos_id(), processor.eos_id()} & set(tokens.tolist())


def test_what_the_model_names(encoder: Encoder):
    assert encoder.engine == "sentencepiece"
    assert (encoder.opens.tolist(), encoder.closes.tolist(), encoder.padding) == ([1], [2], 2)
    assert encoder.vocabulary == 600
    starts, ends = encoder.newlines()
    assert starts.sum() == ends.sum() == 1


def test_its_documents_are_not_cut(encoder: Encoder):
    assert not encoder.cuts
    assert list(encoder.pieces(["a\n", "b"])) == ["a\nb"]


def test_it_is_used_beside_tokenizer_json_only_when_asked(folder: Path, tokenizer: Path, tmp_path: Path):
    shutil.copytree(tokenizer, tmp_path, dirs_exist_ok=True)
    shutil.copy(folder / "tokenizer.model", tmp_path)
    assert load_encoder(tmp_path).engine == "tiktoken"
    asked = load_encoder(tmp_path, engine="sentencepiece")
    assert asked.engine == "sentencepiece"
    assert asked.fingerprint == load_encoder(folder).fingerprint


@pytest.mark.parametrize("engine", ["tiktoken", "tokenizers"])
def test_other_engines_need_another_file(folder: Path, engine: str):
    with pytest.raises(DataError, match=rf"tokenizer\.json for engine {engine}.*auto"):
        load_encoder(folder, engine=engine)
