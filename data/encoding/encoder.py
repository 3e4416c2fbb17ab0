"""How does text become token ids, with the tokenizer that a folder holds, and by which library?"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ..errors import DataError
from .backends import Backend, HuggingFace, SentenceModel, Tokens
from .cuts import cut_places, pieces
from .tiktoken import Tiktoken, Unlike, build, tried

ENGINES = ("auto", "tiktoken", "tokenizers", "sentencepiece")
SPECIALS = {"bos": "bos_token", "eos": "eos_token"}


@dataclass(frozen=True)
class Folder:
    """A folder with a tokenizer.json, a tokenizer.model, or what transformers makes a fast tokenizer of."""

    path: Path
    kind: Literal["tokenizer.json", "tokenizer.model", "transformers"]

    @cached_property
    def content(self) -> bytes:
        """Give what decides the ids: the file, or the tokenizer.json that transformers would write."""
        if self.kind == "transformers":
            return self._loaded.backend_tokenizer.to_str().encode()
        return (self.path / self.kind).read_bytes()

    def backend(self) -> HuggingFace | SentenceModel:
        """Open the tokenizer; DataError where the file is broken."""
        try:
            if self.kind == "tokenizer.model":
                backend = SentenceModel(self.content)
                assert backend.processor  # opened now, to learn of a broken file
            else:
                backend = HuggingFace(self.content)
                assert backend.tokenizer
            return backend
        except DataError:
            raise
        except Exception as error:  # tokenizers raises bare Exception
            raise DataError(
                f"{self.path / self.kind}: must be readable, got: {error}; save the tokenizer anew"
            ) from error

    def special(self, word: str, backend: HuggingFace | SentenceModel) -> int | None:
        """Give the id of `bos` or `eos`; None where the folder names none."""
        if isinstance(backend, SentenceModel):
            id_ = getattr(backend.processor, f"{word}_id")()
            return None if id_ < 0 else id_
        name = self._names[word]
        if name is None:
            return None
        id_ = backend.token_to_id(name)
        if id_ is None:
            raise DataError(
                f"{self.path}: {word}_token must be in the vocabulary, got {name!r}; "
                "correct tokenizer_config.json"
            )
        return id_

    @cached_property
    def _names(self) -> dict[str, str | None]:
        """Give both names as the files have them; the class knows better only where no file names any."""
        config = _read(self.path / "tokenizer_config.json")
        legacy = _read(self.path / "special_tokens_map.json")
        names = {word: _content((legacy | config).get(key)) for word, key in SPECIALS.items()}
        if any(names.values()) or not (config or (self.path / "config.json").exists()):
            return names
        return {word: getattr(self._loaded, key) for word, key in SPECIALS.items()}

    @cached_property
    def _loaded(self) -> Any:
        from transformers import AutoTokenizer  # seconds to import

        try:
            tokenizer = AutoTokenizer.from_pretrained(self.path, local_files_only=True)
        except (OSError, ValueError, ImportError) as error:
            got = "none of them" if self.kind == "transformers" else f"{self.kind} and: {error}"
            raise DataError(
                f"{self.path}: must hold tokenizer.json or tokenizer.model, or what transformers makes a "
                f"tokenizer of, got {got}; fetch the tokenizer's files too"
            ) from error
        if getattr(tokenizer, "backend_tokenizer", None) is None:
            raise DataError(
                f"{self.path}: must be a fast tokenizer, got {type(tokenizer).__name__}; convert it"
            )
        return tokenizer


@dataclass(frozen=True, kw_only=True)
class Encoder:
    """A tokenizer that reads text as text: no special token is added, cut, padded or recognised inside a
    document.

    Pickled, it is opened again from its folder where it arrives, without trying anything twice.
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
    most: int
    """The largest id of a pack and one: a model needs as many rows."""
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
        return _reopen, (self.engine, facts | {"folder": Folder(self.folder.path, self.folder.kind)})


def load_encoder(path: str | Path, *, opens: str = "", closes: str = "eos", engine: str = "auto") -> Encoder:
    """Open a tokenizer folder offline.

    `opens` and `closes` are "", "bos", "eos", or "text:" and any text. `auto` takes tiktoken where its ids
    are found to be those of tokenizer.json. DataError where the folder has no fast tokenizer, neither EOS
    nor BOS or not the one asked, and where the engine asked cannot be had.
    """
    if engine not in ENGINES:
        raise DataError(f"engine: must be one of {', '.join(ENGINES)}, got {engine!r}; choose one")
    folder = _open_folder(Path(path), sentencepiece=engine == "sentencepiece")
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
        most=max(reference.ordinary, padding + 1, *(before + 1), *(after + 1)),
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
    places, fast = _examined(folder.content, engine != "tokenizers")
    if isinstance(fast, Tiktoken):
        return fast, places, "tiktoken: gives the ids of tokenizer.json wherever both are asked"
    if engine == "tiktoken":
        raise DataError(
            f"{folder.path}: engine tiktoken must give the ids of tokenizer.json, got other ones: {fast}; "
            "leave the engine at auto"
        )
    return reference, places, f"tokenizers: {fast}"


@lru_cache(maxsize=8)
def _examined(content: bytes, fast: bool) -> tuple[re.Pattern[str] | None, Tiktoken | str]:
    """Give where texts may be cut, and tiktoken or why it is not used; once a process."""
    fields = json.loads(content)
    places = cut_places(fields, HuggingFace(content))
    try:
        return places, tried(content, fields) if fast else "asked for"
    except Unlike as error:
        return places, str(error)


def _open_folder(folder: Path, *, sentencepiece: bool) -> Folder:
    """Find the tokenizer of a folder, offline; tokenizer.json comes first unless SentencePiece is asked."""
    if not folder.is_dir():
        raise DataError(f"tokenizer: must be a folder with tokenizer.json, got {folder}; check the path")
    # Transformers opens many names, and what is no file, as a pipe, might never end.
    if strange := [
        path.name for path in folder.iterdir() if path.exists() and not path.is_file() | path.is_dir()
    ]:
        raise DataError(f"{folder}: must hold files, got a pipe or a device, {strange[0]}; delete it")
    if sentencepiece and not (folder / "tokenizer.model").exists():
        raise DataError(f"{folder}: must hold tokenizer.model for engine sentencepiece, got none; add it")
    if (folder / "tokenizer.json").exists() and not sentencepiece:
        return Folder(folder, "tokenizer.json")
    if (folder / "tokenizer.model").exists():
        return Folder(folder, "tokenizer.model")
    return Folder(folder, "transformers")


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


def _reopen(engine: str, facts: dict[str, Any]) -> Encoder:
    folder: Folder = facts["folder"]
    marks = (facts["padding"], facts["opens"], facts["closes"])
    if _fingerprint(folder.content, *marks) != facts["fingerprint"]:
        raise DataError(
            f"{folder.path}: must be the tokenizer that the run began with, got another; restore it"
        )
    if engine == "sentencepiece":
        return Encoder(backend=SentenceModel(folder.content), **facts)
    if engine == "tokenizers":
        return Encoder(backend=HuggingFace(folder.content), **facts)
    return Encoder(backend=build(folder.content, json.loads(folder.content)), **facts)


def _read(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise DataError(f"{path}: must be JSON, got: {error}; restore the file") from error


def _content(token: str | Mapping[str, Any] | None) -> str | None:
    return token["content"] if isinstance(token, Mapping) else token
