"""Which libraries turn text into ids, and what do all of them answer?

`HuggingFace` is the reference for every tokenizer.json; `SentenceModel` for a lone tokenizer.model. The
faster way to the reference's ids is in `tiktoken.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any, Protocol

import numpy as np
from tokenizers import Tokenizer

Tokens = Sequence[int] | np.ndarray


class Backend(Protocol):
    """Reads text as text: no special token is added, cut, padded or recognised inside a document."""

    @property
    def name(self) -> str: ...

    @property
    def vocabulary(self) -> int:
        """Give the largest id and one."""
        ...

    def encode(self, texts: Sequence[str]) -> list[np.ndarray]:
        """Give uint32 ids of each text."""
        ...

    def decode(self, tokens: Tokens) -> str:
        """Give the text, special tokens by their names."""
        ...

    def decode_each(self, tokens: Iterable[int]) -> list[str]:
        """Give the text of each token alone."""
        ...

    def token_to_id(self, token: str) -> int | None: ...


@dataclass(frozen=True)
class HuggingFace:
    """A tokenizer.json, opened when it is first needed, once a process."""

    content: bytes = field(repr=False)
    name = "tokenizers"

    @property
    def tokenizer(self) -> Tokenizer:
        return _opened(self.content)

    @property
    def vocabulary(self) -> int:
        return max(self.tokenizer.get_vocab().values(), default=-1) + 1

    @property
    def ordinary(self) -> int:
        """Give the largest id that text becomes, and one: some models lack rows for their special tokens."""
        special = {id_ for id_, token in self.tokenizer.get_added_tokens_decoder().items() if token.special}
        return max({*self.tokenizer.get_vocab().values()} - special, default=-1) + 1

    def encode(self, texts: Sequence[str]) -> list[np.ndarray]:
        encodings = self.tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
        return [np.array(encoding.ids, dtype=np.uint32) for encoding in encodings]

    def decode(self, tokens: Tokens) -> str:
        return self.tokenizer.decode(np.asarray(tokens).tolist(), skip_special_tokens=False)

    def decode_each(self, tokens: Iterable[int]) -> list[str]:
        return self.tokenizer.decode_batch([[token] for token in tokens], skip_special_tokens=False)

    def token_to_id(self, token: str) -> int | None:
        return self.tokenizer.token_to_id(token)


@lru_cache(maxsize=8)
def _opened(content: bytes) -> Tokenizer:
    tokenizer = Tokenizer.from_buffer(content)
    tokenizer.no_truncation()
    tokenizer.no_padding()
    tokenizer.encode_special_tokens = True  # "<|endoftext|>" in a document is text, not an end
    return tokenizer


@dataclass(frozen=True)
class SentenceModel:
    """A SentencePiece model; its control symbols, such as `</s>`, are text inside a document."""

    content: bytes = field(repr=False)
    name = "sentencepiece"

    @cached_property
    def processor(self) -> Any:
        """Open the model; RuntimeError where the content is none."""
        from sentencepiece import SentencePieceProcessor

        processor = SentencePieceProcessor()
        processor.LoadFromSerializedProto(self.content)
        return processor

    @property
    def vocabulary(self) -> int:
        return self.processor.get_piece_size()

    @property
    def ordinary(self) -> int:
        return self.vocabulary

    def encode(self, texts: Sequence[str]) -> list[np.ndarray]:
        encoded = self.processor.encode(list(texts), out_type=int, num_threads=1)
        return [np.array(ids, dtype=np.uint32) for ids in encoded]

    def decode(self, tokens: Tokens) -> str:
        return self.processor.decode(np.asarray(tokens).tolist())

    def decode_each(self, tokens: Iterable[int]) -> list[str]:
        return [self.processor.decode([token]) for token in tokens]

    def token_to_id(self, token: str) -> int | None:
        id_ = self.processor.piece_to_id(token)
        return None if id_ == self.processor.unk_id() else id_
