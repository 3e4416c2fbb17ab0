"""How does text become token ids, with any Hugging Face fast tokenizer?"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from tokenizers import Tokenizer

from ..errors import DataError

BATCH_BYTES = 4_000_000

Item = TypeVar("Item")


@dataclass(frozen=True, kw_only=True)
class Encoder:
    """A tokenizer that reads text as text: no special token is added, cut, padded or recognised inside a
    document."""

    backend: Tokenizer
    separator: int
    """Token that ends every document: EOS, or BOS where there is none."""
    fingerprint: str

    def encode(self, texts: Sequence[str]) -> list[np.ndarray]:
        """Give uint32 ids of each text, without separator."""
        encodings = self.backend.encode_batch_fast(list(texts), add_special_tokens=False)
        return [np.array(encoding.ids, dtype=np.uint32) for encoding in encodings]

    def newlines(self) -> tuple[np.ndarray, np.ndarray]:
        """Tell for every id of the vocabulary whether its text starts, and whether it ends, with a
        newline."""
        texts = self.backend.decode_batch([[i] for i in range(self.backend.get_vocab_size())])
        starts = np.array([text.startswith("\n") for text in texts])
        return starts, np.array([text.endswith("\n") for text in texts])


def load_encoder(path: str | Path) -> Encoder:
    """Open a tokenizer folder offline; DataError where it is missing, not fast, or has neither EOS nor
    BOS."""
    from transformers import AutoTokenizer  # seconds to import, and opening a plan needs none of it

    folder = Path(path)
    if not folder.is_dir():
        raise DataError(f"tokenizer: must be a folder with tokenizer.json, got {folder}; check the path")
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError) as error:
        raise DataError(
            f"{folder}: must hold a Hugging Face tokenizer, got: {error}; check the folder"
        ) from error
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise DataError(f"{folder}: must be a fast tokenizer, got {type(tokenizer).__name__}; convert it")
    separator = tokenizer.bos_token_id if tokenizer.eos_token_id is None else tokenizer.eos_token_id
    if separator is None:
        raise DataError(
            f"{folder}: must have an EOS or BOS token to end documents, got neither; set eos_token"
        )
    backend = Tokenizer.from_str(backend.to_str())
    backend.no_truncation()
    backend.no_padding()
    backend.encode_special_tokens = True  # "<|endoftext|>" in a document is text, not an end
    source = folder / "tokenizer.json"
    content = source.read_bytes() if source.exists() else backend.to_str().encode()
    fingerprint = hashlib.sha256(content + str(separator).encode()).hexdigest()
    return Encoder(backend=backend, separator=int(separator), fingerprint=fingerprint)


def batches(items: Iterable[tuple[Item, int]], limit: int = BATCH_BYTES) -> Iterator[list[Item]]:
    """Group (item, bytes) pairs so that a batch stays below `limit` bytes or holds a single item."""
    batch: list[Item] = []
    held = 0
    for item, size in items:
        if batch and held + size > limit:
            yield batch
            batch, held = [], 0
        batch.append(item)
        held += size
    if batch:
        yield batch
