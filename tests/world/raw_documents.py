"""A reader of documents in memory and an encoder whose tokens are bytes, to test what lies between them."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ropewalk.data.sources.source import Input, Raw, Span, Unit

CLOSE = 256


class Bytes:
    """An encoder: every UTF-8 byte is a token, pieces are cut after newlines, 256 closes a document."""

    engine, fingerprint, vocabulary, padding, cuts = "bytes", "bytes", 257, CLOSE, True
    opens, closes = np.zeros(0, np.uint32), np.array([CLOSE], np.uint32)

    def __init__(self, piece: int = 40) -> None:
        self.piece = piece
        self.encoded = 0

    def pieces(self, blocks: Iterable[str]) -> Iterator[str]:
        held = ""
        for line in "".join(blocks).splitlines(keepends=True):
            if held and len(held) + len(line) > self.piece:
                yield held
                held = ""
            held += line
        if held:
            yield held

    def encode(self, texts: Sequence[str]) -> list[np.ndarray]:
        self.encoded += sum(len(text.encode()) for text in texts)
        return [np.frombuffer(text.encode(), np.uint8).astype(np.uint32) for text in texts]


@dataclass
class Memory:
    """A reader: a unit's spans number its documents; None is one that cannot be read."""

    texts: Sequence[str | None]
    tokens: bool = False
    in_bytes: ClassVar[bool] = False

    def unit(self, start: int = 0, stop: int | None = None) -> Unit:
        entry = Input(name="memory/all", url="memory://all", size=0)
        return Unit(spans=(Span(input=entry, start=start, stop=stop or len(self.texts)),))

    def read(self, unit: Unit, skip: int = 0) -> Iterator[Raw]:
        [span] = unit.spans
        for number in range(span.start + skip, span.stop or 0):
            text = self.texts[number]
            blocks = None if text is None or self.tokens else [text[:7], text[7:]]
            tokens = None if text is None or not self.tokens else Bytes().encode([text])[0]
            yield Raw(
                id=f"d{number}",
                start=number,
                stop=number + 1,
                input=span.input.name,
                text=blocks,
                tokens=tokens,
                fault="null" if text is None else None,
            )
