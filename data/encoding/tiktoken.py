"""When does tiktoken give the very ids of a tokenizer.json, at several times the speed?

Both merge the bytes of a piece pair by pair. tokenizers (H) applies the listed merge of lowest rank, leftmost
first; tiktoken (K) joins the adjacent pair whose union is the token of lowest id, leftmost first. They agree
on every piece if (1) H, on the bytes of each token alone, ends in that token, and (2) merges are listed in
the order of the ids they make. Proof, by induction over the merges made: let two adjacent parts unite to a
token u. No merge crossed the borders of u's span so far, and in it the lowest came first, so the span went
through the first merges that H makes on u alone; there, by (1), the only thing left to do is to join these
two. So each pair that K may join is in H's list, and by (2) both order their choices alike. A merge listed
later for a token that has one already never finds its pair, by the same argument, and is left out of (2).

How text is cut into pieces is `patterns.py`'s half of the proof; a comparison on a probe is made as well.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tiktoken
from tokenizers import Tokenizer
from tokenizers.models import BPE

from .backends import HuggingFace, Tokens
from .patterns import CODE_POINTS, UnprovenError, composes, odd_characters, odd_in_nfc, one_pattern

LONG_RUN = 65_536
"""tiktoken fails on white space of about 1M characters; any text with half a run of this goes the other
way."""


def _alphabet() -> list[str]:
    """Give GPT-2's letter of each byte: itself where it prints, else the next one from U+0100 on."""
    prints = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in prints]
    return [chr(byte) if byte in prints else chr(0x100 + others.index(byte)) for byte in range(256)]


LETTERS = {letter: byte for byte, letter in enumerate(_alphabet())}


@dataclass(frozen=True)
class Ranks:
    """tiktoken, with the reference for what tiktoken cannot do."""

    reference: HuggingFace
    encoding: tiktoken.Encoding
    sizes: np.ndarray
    """Bytes of each id, 0 where the id is not tiktoken's."""
    composes: bool
    """Text is brought into NFC."""
    detour: re.Pattern[str] | None
    """What sends a text to the reference: added tokens that are not special, and `odd` characters."""
    odd: str
    """Those that the two regex engines class differently."""
    name = "tiktoken"

    @property
    def vocabulary(self) -> int:
        return self.reference.vocabulary

    def encode(self, texts: Sequence[str]) -> list[np.ndarray]:
        return [self._encode(text) for text in texts]

    def _encode(self, text: str) -> np.ndarray:
        plain = text
        if self.composes and not unicodedata.is_normalized("NFC", text):
            plain = self.reference.tokenizer.normalizer.normalize_str(text)
        if not (self._detours(text) or self._detours(plain) or _long_run(plain)):
            ids = np.array(self.encoding.encode_ordinary(plain), dtype=np.uint32)
            if int(self.sizes[ids].sum()) == len(plain.encode()):  # what no pattern matches would be lost
                return ids
        return self.reference.encode([text])[0]

    def _detours(self, text: str) -> bool:
        return self.detour is not None and self.detour.search(text) is not None

    def decode(self, tokens: Tokens) -> str:
        return self.reference.decode(tokens)

    def decode_each(self, tokens: Iterable[int]) -> list[str]:
        return self.reference.decode_each(tokens)

    def token_to_id(self, token: str) -> int | None:
        return self.reference.token_to_id(token)


def prove_ranks(fields: Mapping[str, Any], reference: HuggingFace) -> Ranks:
    """Give tiktoken for the fields of a tokenizer.json; UnprovenError unless its ids are the reference's for
    every text."""
    odd = odd_characters(one_pattern(fields.get("pre_tokenizer")))
    if composes(fields.get("normalizer")):
        odd += "".join(set(odd_in_nfc()) - set(odd) - set("x\u0301\u0323"))
    ranks = build_ranks(fields, reference, odd)
    prove_merges(fields)
    probes = _probes()
    for ours, theirs in zip(ranks.encode(probes), reference.encode(probes), strict=True):
        if not np.array_equal(ours, theirs):
            raise UnprovenError("a probe had other ids")
    return ranks


def prove_merges(fields: Mapping[str, Any]) -> None:
    """Raise UnprovenError unless the merges are such that tiktoken makes the same."""
    tokens = _tokens(fields)
    alone = Tokenizer(BPE(vocab=tokens, merges=_merges(fields, tokens)))
    made = alone.encode_batch_fast(list(tokens), add_special_tokens=False)
    for (token, id_), encoding in zip(tokens.items(), made, strict=True):
        if encoding.ids != [id_]:
            raise UnprovenError(f"its merges, in the order of their ids, do not make token {id_} {token!r}")


def build_ranks(fields: Mapping[str, Any], reference: HuggingFace, odd: str) -> Ranks:
    """Give the same where it is proven already; UnprovenError where the tokenizer's shape does not allow
    it."""
    pattern = one_pattern(fields.get("pre_tokenizer"))
    try:
        ranks = {bytes(map(LETTERS.__getitem__, token)): id_ for token, id_ in _tokens(fields).items()}
    except KeyError as error:
        raise UnprovenError("its tokens are not written in ByteLevel's letters") from error
    sizes = np.zeros(max(ranks.values()) + 1, np.int64)
    sizes[list(ranks.values())] = list(map(len, ranks))
    found = [token["content"] for token in fields["added_tokens"] if not token["special"]] + list(odd)
    return Ranks(
        reference,
        tiktoken.Encoding("ranks", pat_str=pattern, mergeable_ranks=ranks, special_tokens={}),
        sizes,
        composes(fields.get("normalizer")),
        re.compile("|".join(map(re.escape, found))) if found else None,
        odd,
    )


def _tokens(fields: Mapping[str, Any]) -> dict[str, int]:
    """Give the tokens that text is made of: bytes, and what merges make."""
    model = fields["model"]
    if model.get("type", "BPE") != "BPE":
        raise UnprovenError(f"its model is {model['type']}")
    odd = ("dropout", "byte_fallback", "continuing_subword_prefix", "end_of_word_suffix")
    if found := [key for key in odd if model.get(key)]:
        raise UnprovenError(f"its model has {', '.join(found)}")
    vocab: dict[str, int] = model["vocab"]
    if missing := LETTERS.keys() - vocab.keys():
        raise UnprovenError(f"its vocabulary lacks {len(missing)} of the 256 bytes")
    names = dict.fromkeys([*LETTERS, *map("".join, _pairs(model))])
    rest = vocab.keys() - names.keys()
    added = {token["content"] for token in fields["added_tokens"]}
    if rest - added or (rest and model.get("ignore_merges")):
        raise UnprovenError(f"{len(rest)} tokens of its vocabulary come from no merge")
    return {name: vocab[name] for name in names}


def _pairs(model: Mapping[str, Any]) -> list[Sequence[str]]:
    """Give the merges, which older files write as one string."""
    return [pair.split(" ") if isinstance(pair, str) else pair for pair in model["merges"]]


def _merges(fields: Mapping[str, Any], tokens: Mapping[str, int]) -> list[tuple[str, str]]:
    """Give the merges whose results have rising ids."""
    kept, last = [], -1
    for left, right in _pairs(fields["model"]):
        if tokens[left + right] >= last:
            kept.append((left, right))
            last = tokens[left + right]
    return kept


def _long_run(text: str) -> bool:
    """Tell whether some aligned half of a long run is all white space; true wherever a whole run is."""
    half = LONG_RUN // 2
    return any(text[i : i + half].isspace() for i in range(0, len(text) - half + 1, half))


def _probes() -> list[str]:
    """Give texts of all parts of Unicode, and some where any two characters of ASCII meet, with and without
    something beside them."""
    spread = CODE_POINTS[:0x3400] + CODE_POINTS[0x3400::97]
    beside = (("", ""), ("x", ""), ("", "x"), (" ", "\n"))
    ascii_ = CODE_POINTS[:128]
    pairs = ["".join(f"{left}{a}{b}{right}" for b in ascii_) for a in ascii_ for left, right in beside]
    return [*(spread[i : i + 64] for i in range(0, len(spread), 64)), *pairs]
