"""What does a tokenizer's folder hold: which kind of tokenizer, and which token begins and ends a text?"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from ..errors import DataError
from .backends import HuggingFace, SentenceModel

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
                return SentenceModel(self.content).opened()
            return HuggingFace(self.content).opened()
        except Exception as error:  # tokenizers raises bare Exception
            raise DataError(
                f"{self.path / self.kind}: must be readable, got: {error}; save the tokenizer anew"
            ) from error

    def special(self, word: str, backend: HuggingFace | SentenceModel) -> int | None:
        """Give the id of `bos` or `eos`; None where the folder names none."""
        if isinstance(backend, SentenceModel):
            found = getattr(backend.processor, f"{word}_id")()
            return None if found < 0 else found
        name = self._names[word]
        if name is None:
            return None
        found = backend.token_to_id(name)
        if found is None:
            raise DataError(
                f"{self.path}: {word}_token must be in the vocabulary, got {name!r}; "
                "correct tokenizer_config.json"
            )
        return found

    @cached_property
    def _names(self) -> dict[str, str | None]:
        """Give both names as the files have them; the class knows better only where no file names any."""
        config = _read(self.path / "tokenizer_config.json")
        legacy = _read(self.path / "special_tokens_map.json")
        found = {word: _content((legacy | config).get(key)) for word, key in SPECIALS.items()}
        if any(found.values()) or not (config or (self.path / "config.json").exists()):
            return found
        return {word: getattr(self._loaded, key) for word, key in SPECIALS.items()}

    @cached_property
    def _loaded(self) -> Any:
        from transformers import AutoTokenizer  # seconds to import

        try:
            tokenizer = AutoTokenizer.from_pretrained(self.path, local_files_only=True)
        except (OSError, ValueError, ImportError) as error:
            raise DataError(
                f"{self.path}: must hold a Hugging Face tokenizer, got: {error}; check the folder"
            ) from error
        if getattr(tokenizer, "backend_tokenizer", None) is None:
            raise DataError(
                f"{self.path}: must be a fast tokenizer, got {type(tokenizer).__name__}; convert it"
            )
        return tokenizer


def open_folder(path: str | Path, *, sentencepiece: bool) -> Folder:
    """Find the tokenizer of a folder, offline; tokenizer.json comes first unless SentencePiece is asked."""
    folder = Path(path)
    if not folder.is_dir():
        raise DataError(f"tokenizer: must be a folder with tokenizer.json, got {folder}; check the path")
    if sentencepiece and not (folder / "tokenizer.model").exists():
        raise DataError(f"{folder}: must hold tokenizer.model for engine sentencepiece, got none; add it")
    if (folder / "tokenizer.json").exists() and not sentencepiece:
        return Folder(folder, "tokenizer.json")
    if (folder / "tokenizer.model").exists():
        return Folder(folder, "tokenizer.model")
    return Folder(folder, "transformers")


def _read(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise DataError(f"{path}: must be JSON, got: {error}; restore the file") from error


def _content(token: str | Mapping[str, Any] | None) -> str | None:
    return token["content"] if isinstance(token, Mapping) else token
