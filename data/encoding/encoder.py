"""How does text become token ids, with any tokenizer, and is the fast way the right one?"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import DataError
from .backends import Backend, HuggingFace, SentenceModel, Tokens
from .cuts import cut_places, pieces
from .folder import Folder, open_folder
from .patterns import UnprovenError
from .tiktoken import Ranks, build_ranks, prove_ranks

ENGINES = ("auto", "tiktoken", "tokenizers", "sentencepiece")


@dataclass(frozen=True, kw_only=True)
class Encoder:
    """A tokenizer that reads text as text: no special token is added, cut, padded or recognised inside a
    document.

    Pickled, it is opened again from its folder where it arrives, without proving anything twice.
    """

    backend: Backend
    folder: Folder
    why: str
    """Why the engine is what it is, in a line."""
    fingerprint: str
    """Of the ids that documents get, the same for every engine."""
    opens: np.ndarray
    closes: np.ndarray
    """uint32 tokens put before and after each document."""
    padding: int
    """EOS, or BOS where there is none."""
    vocabulary: int
    """The largest id and one."""
    places: re.Pattern[str] | None
    """After a match of this a text may be cut."""

    @property
    def engine(self) -> str:
        return self.backend.name

    @property
    def cuts(self) -> bool:
        """Tell whether a text may be tokenised in pieces."""
        return self.places is not None

    def encode(self, texts: Sequence[str]) -> list[np.ndarray]:
        """Give uint32 ids of each text, without opens and closes."""
        return self.backend.encode(texts)

    def decode(self, tokens: Tokens) -> str:
        """Give the text of tokens, special ones by their names."""
        return self.backend.decode(tokens)

    def pieces(self, blocks: Iterable[str]) -> Iterator[str]:
        """Give a text that comes in blocks in pieces of about 1M characters, whose ids run together are the
        ids of the whole."""
        return pieces(blocks, self.places)

    def newlines(self) -> tuple[np.ndarray, np.ndarray]:
        """Tell for every id of the vocabulary whether its text starts, and whether it ends, with a
        newline."""
        texts = self.backend.decode_each(range(self.vocabulary))
        starts = np.array([text.startswith("\n") for text in texts])
        return starts, np.array([text.endswith("\n") for text in texts])

    def __reduce__(self) -> tuple[Any, ...]:
        facts = {name: getattr(self, name) for name in self.__dataclass_fields__ if name != "backend"}
        odd = self.backend.odd if isinstance(self.backend, Ranks) else ""
        return _reopen, (self.engine, odd, facts | {"folder": Folder(self.folder.path, self.folder.kind)})


def load_encoder(path: str | Path, *, opens: str = "", closes: str = "eos", engine: str = "auto") -> Encoder:
    """Open a tokenizer folder offline.

    `opens` and `closes` are "", "bos", "eos", or "text:" and any text. `auto` takes tiktoken where its ids
    are proven to be those of tokenizer.json. DataError where the folder has no fast tokenizer, neither EOS
    nor BOS or not the one asked, and where the engine asked cannot be had.
    """
    if engine not in ENGINES:
        raise DataError(f"engine: must be one of {', '.join(ENGINES)}, got {engine!r}; choose one")
    folder = open_folder(path, sentencepiece=engine == "sentencepiece")
    reference = folder.backend()
    specials = {word: folder.special(word, reference) for word in ("eos", "bos")}
    padding = specials["bos"] if specials["eos"] is None else specials["eos"]
    if padding is None:
        raise DataError(
            f"{folder.path}: must have an EOS or BOS token to end documents, got neither; set eos_token"
        )
    before = _marks(opens, "opens", specials, reference)
    after = _marks(closes, "closes", specials, reference)
    backend, places, why = _choose(folder, reference, engine)
    return Encoder(
        backend=backend,
        folder=folder,
        why=why,
        fingerprint=_fingerprint(folder.content, padding, before, after),
        opens=before,
        closes=after,
        padding=padding,
        vocabulary=reference.vocabulary,
        places=places,
    )


def _choose(
    folder: Folder, reference: HuggingFace | SentenceModel, engine: str
) -> tuple[Backend, re.Pattern[str] | None, str]:
    """Give the backend, where its texts may be cut, and why it is this one."""
    if isinstance(reference, SentenceModel):
        if engine in ("tiktoken", "tokenizers"):
            raise DataError(
                f"{folder.path}: must hold tokenizer.json for engine {engine}, got tokenizer.model only; "
                "leave the engine at auto"
            )
        return reference, None, "sentencepiece: tokenizer.model is used"
    places = _places(folder.content)
    if engine == "tokenizers":
        return reference, places, "tokenizers: asked for"
    try:
        return _proven(folder.content), places, "tiktoken: its ids are proven to be those of tokenizer.json"
    except UnprovenError as error:
        if engine == "tiktoken":
            raise DataError(
                f"{folder.path}: engine tiktoken must give the ids of tokenizer.json, got no proof: "
                f"{error}; leave the engine at auto"
            ) from error
        return reference, places, f"tokenizers: {error}"


@lru_cache(maxsize=8)
def _proven(content: bytes) -> Ranks:
    """Prove a tokenizer.json once a process: it takes seconds."""
    return prove_ranks(json.loads(content), HuggingFace(content))


@lru_cache(maxsize=8)
def _places(content: bytes) -> re.Pattern[str] | None:
    return cut_places(json.loads(content), HuggingFace(content))


def _marks(word: str, key: str, specials: dict[str, int | None], backend: Backend) -> np.ndarray:
    """Give the uint32 tokens that a word of the recipe asks for."""
    if word.startswith("text:"):
        return backend.encode([word.removeprefix("text:")])[0]
    if word and word not in specials:
        raise DataError(
            f"data.{key}: must be empty, bos, eos or text:..., got {word!r}; write text:{word} for plain text"
        )
    if word and specials[word] is None:
        other = next(name for name, id_ in specials.items() if id_ is not None)
        raise DataError(
            f"data.{key}: the tokenizer must have a token for {word!r}, got none; set it to {other}"
        )
    return np.array([specials[word]] if word else [], dtype=np.uint32)


def _fingerprint(content: bytes, padding: int, opens: np.ndarray, closes: np.ndarray) -> str:
    marks = [opens.tolist(), closes.tolist()]
    more = "" if marks == [[], [padding]] else json.dumps(marks)
    return hashlib.sha256(content + str(padding).encode() + more.encode()).hexdigest()


def _reopen(engine: str, odd: str, facts: dict[str, Any]) -> Encoder:
    folder: Folder = facts["folder"]
    marks = (facts["padding"], facts["opens"], facts["closes"])
    if _fingerprint(folder.content, *marks) != facts["fingerprint"]:
        raise DataError(
            f"{folder.path}: must be the tokenizer that the run began with, got another; restore it"
        )
    if engine == "sentencepiece":
        return Encoder(backend=SentenceModel(folder.content), **facts)
    reference = HuggingFace(folder.content)
    if engine == "tokenizers":
        return Encoder(backend=reference, **facts)
    return Encoder(backend=build_ranks(json.loads(folder.content), reference, odd), **facts)
