"""A tiny tokenizer, real held-out text in its tokens, and tiny random models with a scheme installed."""

import sysconfig
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from transformers import AutoTokenizer, LlamaForCausalLM, PreTrainedTokenizerFast
from world.evaluations import WINDOW, tiny_llama

from ropewalk import rope
from ropewalk.data import Document, train_tokenizer
from ropewalk.eval import Context, Subject
from ropewalk.eval.forwards import Forwards
from ropewalk.train.mesh import Mesh

LIBRARY = Path(sysconfig.get_path("stdlib"))
TEXTS = [
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
]


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
        tokens = np.array(tokenizer.encode(text, add_special_tokens=False), "uint32")[: 900 + 100 * i]
        made.append(Document(tokens=tokens, source="code", id=f"{name}.py"))
    return made


@pytest.fixture
def make_plain(tokenizer: PreTrainedTokenizerFast) -> Callable[..., LlamaForCausalLM]:
    """Make a tiny random Llama in float64, as transformers runs it."""
    return lambda seed=0, **changes: tiny_llama(len(tokenizer), seed, **changes).double()


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
def make_context(documents: list[Document]) -> Callable[..., Context]:
    def make(*, seed: int = 0, **forwards: Any) -> Context:
        runs = Forwards(**{"mesh": Mesh.alone(), "batch_tokens": 512} | forwards)
        return Context(documents=documents, reference="base", score_rows=runs.score_rows, seed=seed)

    return make


@pytest.fixture
def context(make_context: Callable[..., Context]) -> Context:
    return make_context()
