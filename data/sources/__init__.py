"""Where do raw documents come from? Every file of this folder that has kinds, imported so that they register
themselves; procedural kinds (facts, repeats) are drawn at planning instead."""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules

from .source import Raw, Reader, Reading, SourceReader, section_of
from .source import source as _readers

for _module in iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")

SECTIONS: dict[str, type[Reading]] = {kind: section_of(kind) for kind in _readers.known}
"""What a recipe may say of each kind."""

__all__ = ["SECTIONS", "Raw", "Reader", "open_reader"]


def open_reader(source: Reading, *, where: str) -> SourceReader:
    """Give the reader of a source; `where` is its key in the recipe, for messages."""
    kind = next(kind for kind, section in SECTIONS.items() if isinstance(source, section))
    return _readers.known[kind](source=source, where=where)
