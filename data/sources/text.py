"""Which documents are text files, one each, or the files of one repository together?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from .blocks import BLOCK, decoded, normalised, text_of
from .cutting import gathered
from .faults import Fault, Policy
from .paths import list_inputs
from .source import Input, Raw, Span, Unit
from .spec import FilesReading
from .stored import opened


@dataclass(frozen=True, kw_only=True)
class FilesReader:
    """Read folders of text and code."""

    source: FilesReading
    where: str

    def inputs(self) -> list[Input]:
        """Every file; those of one repository sorted behind each other, whatever paths named them."""
        found = list_inputs(
            self.source.paths, where=self.where, suffixes=self.source.suffixes, exclude=self.source.exclude
        )
        if self.source.per == "file":
            return found
        together: dict[str, list[Input]] = {}
        for input in found:
            together.setdefault(_repository(input), []).append(input)
        return [
            input for files in together.values() for input in sorted(files, key=lambda f: f.name.split("/"))
        ]

    def units(self, inputs: Sequence[Input], size: int) -> list[Unit]:
        documents = self._documents(Span(input=input) for input in inputs)
        return gathered(
            ((spans, sum(span.input.size for span in spans)) for _, spans in documents), size
        )  # fmt: skip

    def read(self, unit: Unit, skip: int = 0) -> Iterator[Raw]:
        policy = Policy(where=self.where, on_error=self.source.on_error)
        for id_, spans in list(self._documents(unit.spans))[skip:]:
            urls = [span.input.url for span in spans]
            size = sum(span.input.size for span in spans)
            try:
                text = text_of(partial(_concatenated, urls), size)
            except Fault as fault:
                yield policy.refuse(fault, id=id_, input=id_, start=0, stop=size)
            else:
                yield Raw(id=id_, start=0, stop=size, input=id_, text=text)

    def _documents(self, spans: Iterator[Span] | Sequence[Span]) -> Iterator[tuple[str, tuple[Span, ...]]]:
        held: list[Span] = []
        name = ""
        for span in spans:
            own = span.input.name if self.source.per == "file" else _repository(span.input)
            if held and own != name:
                yield name, tuple(held)
                held = []
            held.append(span)
            name = own
        if held:
            yield name, tuple(held)


def _repository(input: Input) -> str:
    """Name the folder directly below the path; a file that lies in none is a document of its own."""
    return "/".join(input.name.split("/")[:2])


def _concatenated(urls: Sequence[str]) -> Iterator[str]:
    """Give the files' text behind each other, each on lines of its own.

    No header tells where a file starts: it would put text into the document that nobody wrote, in the
    comment syntax of one language, and ProLong's repositories, which recipes compare with, have none.
    """
    last = "\n"
    for url in urls:
        for number, block in enumerate(_blocks(url)):
            if number == 0 and last != "\n":
                yield "\n"
            yield block
            last = block[-1]


def _blocks(url: str) -> Iterator[str]:
    with opened(url) as file:
        yield from normalised(decoded(iter(lambda: file.read(BLOCK), b""), url))
