"""Which held-out documents is everything measured on?"""

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

from .errors import EvalError

if TYPE_CHECKING:
    from ..data import Document


def choose_documents(
    documents: Sequence["Document"], *, length: int, count: int, seed: int, where: str
) -> list["Document"]:
    """Choose `count` documents of at least `length` tokens by a hash of seed and id.

    A document's rank does not depend on its neighbours: a larger count only adds documents to a smaller one.
    """
    long_enough = [d for d in documents if len(d.tokens) >= length]
    if len(long_enough) < count:
        longest = max((len(d.tokens) for d in documents), default=0)
        raise EvalError(
            f"{where}: {count} held-out documents of at least {length} tokens must be there, got "
            f"{len(long_enough)} "
            f"of {len(documents)} (the longest has {longest} tokens); lower documents or length, or hold "
            "out more"
        )
    return sorted(long_enough, key=lambda d: draw(seed, document_name(d)))[:count]


def document_name(document: "Document") -> str:
    """Name a document by its id and, for the later pieces of a long one, its first token."""
    return f"{document.id}+{document.start}" if document.start else str(document.id)


def draw(seed: int, name: str) -> int:
    """Turn a seed and a name into 64 random bits that no other name disturbs."""
    return int.from_bytes(hashlib.sha256(f"{seed}:{name}".encode()).digest()[:8], "big")
