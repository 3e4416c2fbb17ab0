"""A tiny tokenizer, real held-out text in its tokens, and tiny random models with a scheme installed."""

import sysconfig
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from ropewalk import rope
from ropewalk.data import Document, train_tokenizer
from ropewalk.eval import Context, Subject
from ropewalk.train.mesh import Mesh

LIBRARY = Path(sysconfig.get_path("stdlib"))
TEXTS = (
    "argparse",
    "ast",
    "calendar",
    "csv",
    "dataclasses",
    "difflib",
    "enum",
    "fractions",
    "inspect",
    "shutil",
)
WINDOW = 64


@pytest.fixture(scope="session")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> PreTrainedTokenizerFast:
    texts = [(LIBRARY / f"{name}.py").read_text("utf-8") for name in TEXTS[:4]]
    return AutoTokenizer.from_pretrained(train_tokenizer(texts, 400, tmp_path_factory.mktemp("tokenizer")))


@pytest.fixture(scope="session")
def documents(tokenizer: PreTrainedTokenizerFast) -> list[Document]:
    """Give the beginnings of ten library files, 900 to 1800 tokens of text."""
    made = []
    for i, name in enumerate(TEXTS):
        text = (LIBRARY / f"{name}.py").read_text("utf-8")[: 4000 + 400 * i]
        tokens = torch.tensor(tokenizer.encode(text, add_special_tokens=False)).numpy().astype("uint32")
        made.append(Document(tokens=tokens[: 900 + 100 * i], source="code", id=f"{name}.py"))
    return made


@pytest.fixture
def make_plain(tokenizer: PreTrainedTokenizerFast) -> Callable[..., LlamaForCausalLM]:
    """Make a tiny random Llama in float64, trained (as its config says) to 64 tokens."""

    def make(seed: int = 0, **changes: Any) -> LlamaForCausalLM:
        torch.manual_seed(seed)
        shape = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "head_dim": 8}
        heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": WINDOW}
        ends = {"bos_token_id": None, "eos_token_id": None, "vocab_size": len(tokenizer)}
        given: dict[str, Any] = shape | heads | ends | {"initializer_range": 0.3} | changes
        config = LlamaConfig(**given)
        return LlamaForCausalLM(config).double().eval()

    return make


@pytest.fixture
def make_subject(
    make_plain: Callable[..., LlamaForCausalLM], tokenizer: PreTrainedTokenizerFast
) -> Callable[..., Subject]:
    def make(
        name: str = "base", *, seed: int = 0, scheme: str | None = None, target: int = WINDOW
    ) -> Subject:
        chosen = rope.make_scheme(scheme) if scheme else None
        model = rope.install(make_plain(seed), chosen, target_length=target)
        return Subject(name=name, model=model, tokenizer=tokenizer)

    return make


@pytest.fixture
def context(documents: list[Document]) -> Context:
    return Context(documents=documents, reference="base", mesh=Mesh.alone(), batch_tokens=512)
