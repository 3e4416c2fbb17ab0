"""When may tiktoken stand in for tokenizers, whose ids a tokenizer.json promises, at several times the speed?

Where the file has a shape that both read alike, where hard texts and the vocabulary's own tokens have the
same ids by both, and as long as every SHARE-th text, which both encode, has them too.
"""

from __future__ import annotations

import re
import unicodedata
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import count
from typing import Any

import numpy as np
import tiktoken
from tokenizers import Regex
from tokenizers.normalizers import Replace
from tokenizers.pre_tokenizers import Digits

from ..errors import DataError
from .backends import HuggingFace
from .cuts import PLAIN

SHARE = 64
"""One text in so many, by a hash of its number, is encoded by both."""
LONG_RUN = 65_536
"""tiktoken fails on white space of about 1M characters; any text with half a run of this goes the other
way."""
MOST = 16_384
"""Tokens of the vocabulary that are tried: the longest, and others from all over it."""

GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
"""What `ByteLevel` splits by."""
AFTER_DIGITS = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?[^\s\p{L}\p{N}]+|\s+(?![^\s\p{N}])|\s+"
"""What `ByteLevel` does to text between digits: a digit ends it as the end of the text does."""
CHARACTERS = "".join(map(chr, [*range(0xD800), *range(0xE000, 0x34000), *range(0xE0000, 0xE0200)]))
"""Every character, and what is none yet, of the planes that have any."""

HARD = (
    *"aZsdtlrev09_-+./<&~!?\"'`(){}[]:;,@#$%^*=|\\",
    *" \n\r\t\x0b\x1c\x85\u00a0\u2003\u2028\u3000",
    *"\u00e9\u0130\u017f\u212a\u00df\u01c5\u02b0\u4e2d\u3042\u0915\u1100\u1161\uac00\u0639\u05d0\u0e01",
    *"\u0660\u0967\u00b2\u00bd\u2167\uff15\U00011de0\u0301\u0323\u093f\u20dd\u200b\u200d\ufe0f\ufeff\u00ad",
    *"\u20ac\u3002\u2014\U0001f600\U0001f3fd\U0001f1e9\ue000\ufffd\u0000\u007f\u0378\U000e0041",
    *("don't", "'S", "'ll", "'RE", "'\u017f", "I'VE", "e\u0301\u0323", "\U0001f468\u200d\U0001f469"),
    *("1234567890123", "3.14e-10", "0x7f", "\u0661\u0662\u0663\u0664", "12a34"),
    *("    ", "\t\t", "\n\n", "\r\n", " \n", "\n \n\n", "  \r\n\t", "     \u3000 "),
    *("camelCaseHTTPServer", "ABCdefGHI", "def f(x):\n\treturn x\n", "!!!???", "//\n", "\u4e2d\u6587\u5b57"),
)
"""Each meets each in the probe."""


class Unlike(Exception):  # noqa: N818 it is what a tokenizer is
    """Says in a few words why tokenizers must be used."""


@dataclass(frozen=True)
class Tiktoken(HuggingFace):
    """tiktoken, with tokenizers for what tiktoken cannot do, and beside it for what is checked."""

    encoding: tiktoken.Encoding
    sizes: np.ndarray
    """Bytes of each id, 0 where the id is not tiktoken's."""
    composes: bool
    """Text is brought into NFC."""
    added: re.Pattern[str] | None
    """Added tokens that are not special: a text with one goes to tokenizers."""
    odd: frozenset[str]
    """So does one with a character that some library does not know."""
    numbers: Iterator[int] = field(default_factory=count)
    name = "tiktoken"

    def encode(self, texts: Sequence[str]) -> list[np.ndarray]:
        """Give ids; a DataError where a checked text has others by tokenizers."""
        return [self._encode(text, next(self.numbers)) for text in texts]

    def _encode(self, text: str, number: int) -> np.ndarray:
        ours = self.alone(text)
        if ours is not None and zlib.crc32(number.to_bytes(8, "little")) % SHARE:
            return ours
        [theirs] = super().encode([text])
        if ours is not None and not np.array_equal(ours, theirs):
            raise DataError(
                f"tokenizer.json: must be read alike by tiktoken, got {self.difference(ours, theirs)}; set "
                "data.engine: tokenizers, and delete what is unfinished in the store, which may be so too"
            )
        return theirs

    def alone(self, text: str) -> np.ndarray | None:
        """Give tiktoken's own ids; None where the text is one that it cannot be asked about."""
        plain = text
        if self.composes and not unicodedata.is_normalized("NFC", text):
            plain = self.tokenizer.normalizer.normalize_str(text)
        if self.added and any(map(self.added.search, {text, plain})):
            return None
        if self.odd and not plain.isascii() and not self.odd.isdisjoint(text + plain):
            return None
        if _long_run(plain):
            return None
        ids = np.array(self.encoding.encode_ordinary(plain), dtype=np.uint32)
        whole = int(self.sizes[ids].sum()) == len(plain.encode())  # what no pattern matches would be lost
        return ids if whole else None

    def difference(self, ours: np.ndarray, theirs: np.ndarray) -> str:
        """Show the ids around the first that differs, and their text."""
        both = min(len(ours), len(theirs))
        at = int(np.argmax(np.append(ours[:both] != theirs[:both], True)))
        near = slice(max(0, at - 3), at + 5)
        return f"{ours[near].tolist()}, not {theirs[near].tolist()}, for {self.decode(theirs[near])!r}"


def tried(content: bytes, fields: Mapping[str, Any]) -> Tiktoken:
    """Give tiktoken for a tokenizer.json; Unlike where it is seen to have other ids."""
    made, texts = build(content, fields), probe(fields)
    for text, theirs in zip(texts, HuggingFace(content).encode(texts), strict=True):
        ours = made.alone(text)
        if ours is not None and not np.array_equal(ours, theirs):
            raise Unlike(f"tiktoken gives {made.difference(ours, theirs)}")
    return made


def build(content: bytes, fields: Mapping[str, Any]) -> Tiktoken:
    """Give the same without trying it; Unlike where the tokenizer's shape does not allow it."""
    normalizer = fields.get("normalizer") or {"type": "Sequence", "normalizers": []}
    composes = normalizer["type"] == "NFC"
    if not composes and normalizer != {"type": "Sequence", "normalizers": []}:
        raise Unlike(f"its normalizer is {normalizer['type']}")
    ranks = {_bytes(token): id_ for token, id_ in _tokens(fields).items()}
    sizes = np.zeros(max(ranks.values()) + 1, np.int64)
    sizes[list(ranks.values())] = list(map(len, ranks))
    added = [re.escape(token["content"]) for token in fields["added_tokens"] if not token["special"]]
    pattern = one_pattern(fields.get("pre_tokenizer"))
    odd = characters_known_to_one(composes=composes, digits=pattern.endswith(AFTER_DIGITS))
    encoding = tiktoken.Encoding("ranks", pat_str=pattern, mergeable_ranks=ranks, special_tokens={})
    return Tiktoken(content, encoding, sizes, composes, re.compile("|".join(added)) if added else None, odd)


def probe(fields: Mapping[str, Any]) -> list[str]:
    """Give texts of all parts of Unicode, in which every two things meet that patterns tell apart, names of
    added tokens, and tokens of the vocabulary, alone and run together."""
    meetings = ["".join(f"{a}{b}{after}" for b in HARD) for a in HARD for after in ("", " x")]
    spread = CHARACTERS[:0x3400] + CHARACTERS[0x3400::97]
    names = [token["content"] for token in fields["added_tokens"]]
    tokens = sorted((_bytes(token) for token in _tokens(fields)), key=len, reverse=True)
    some = [*tokens[: MOST // 2], *tokens[MOST // 2 :: max(1, 2 * len(tokens) // MOST - 1)]]
    words = [token.decode(errors="ignore") for token in some]
    return [
        *meetings,
        *(spread[i : i + 64] for i in range(0, len(spread), 64)),
        *(f"a{name} {name}{name}\n" for name in names),
        *words,
        *("".join(words[i::512]) for i in range(512)),
    ]


def one_pattern(pre_tokenizer: Mapping[str, Any] | None) -> str:
    """Give the pattern that splits as these steps do, whose last turns bytes into letters; Unlike where the
    steps are of another shape."""
    fields = pre_tokenizer or {}
    steps = fields["pretokenizers"] if fields.get("type") == "Sequence" else [fields]
    *first, last = steps or [{}]
    if last.get("type") != "ByteLevel" or last.get("add_prefix_space", True):
        raise Unlike("its pre-tokenizer does not end in a plain ByteLevel")
    match first, last.get("use_regex", True):
        case [], True:
            return GPT2
        case [{"type": "Digits", "individual_digits": alone}], True:
            return (r"\p{N}|" if alone else r"\p{N}+|") + AFTER_DIGITS
        case [{"type": "Split", "pattern": {"Regex": pattern}, "behavior": how, "invert": invert}], False:
            if not PLAIN.fullmatch(pattern):
                raise Unlike("its pattern has parts that regex engines read differently")
            if (how, invert) in (("Isolated", False), ("Removed", True)):
                return pattern
    raise Unlike("its pre-tokenizer has steps of an unknown shape")


@cache
def characters_known_to_one(*, composes: bool, digits: bool) -> frozenset[str]:
    """Give the characters that one library knows and another does not, being of another version of Unicode:
    the two regex engines, Python where it tells what is in NFC, and the step `Digits` where it is used.
    """
    unassigned = [_found(r"\p{Cn}+"), set(Replace(Regex(r"\P{Cn}+"), "").normalize_str(CHARACTERS))]
    if composes:
        unassigned.append({character for character in CHARACTERS if unicodedata.category(character) == "Cn"})
    unlike = set.union(*unassigned) - set.intersection(*unassigned)
    if digits:
        runs = Digits(individual_digits=False).pre_tokenize_str(CHARACTERS)[1::2]  # U+0000 is none
        unlike |= set("".join(run for run, _ in runs)) ^ _found(r"\p{N}+")
    return frozenset(unlike)


def _found(pattern: str) -> set[str]:
    """Give the characters that tiktoken's regex engine finds by a pattern."""
    bytes_ = {bytes([i]): i for i in range(256)}
    finder = tiktoken.Encoding("finder", pat_str=pattern, mergeable_ranks=bytes_, special_tokens={})
    return set(bytes(finder.encode_ordinary(CHARACTERS)).decode())


@cache
def _letters() -> dict[str, int]:
    """Give GPT-2's letter of each byte: itself where it prints, else the next one from U+0100 on."""
    prints = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in prints]
    return {chr(byte): byte for byte in prints} | {chr(0x100 + i): byte for i, byte in enumerate(others)}


def _bytes(token: str) -> bytes:
    try:
        return bytes(map(_letters().__getitem__, token))
    except KeyError as error:
        raise Unlike("its tokens are not written in ByteLevel's letters") from error


def _tokens(fields: Mapping[str, Any]) -> dict[str, int]:
    """Give the tokens that text is made of: bytes, and what merges make, in the order of their ids."""
    model = fields["model"]
    if model.get("type", "BPE") != "BPE":
        raise Unlike(f"its model is {model['type']}")
    odd = ("dropout", "byte_fallback", "continuing_subword_prefix", "end_of_word_suffix")
    if odd := [key for key in odd if model.get(key)]:
        raise Unlike(f"its model has {', '.join(odd)}")
    vocab: dict[str, int] = model["vocab"]
    if missing := _letters().keys() - vocab.keys():
        raise Unlike(f"its vocabulary lacks {len(missing)} of the 256 bytes")
    pairs = (pair.split(" ") if isinstance(pair, str) else pair for pair in model["merges"])
    made = dict.fromkeys(map("".join, pairs))
    ids = [vocab[token] for token in made]
    if ids != sorted(ids):
        raise Unlike("its merges are not in the order of their ids")
    names = dict.fromkeys([*_letters(), *made])
    if model.get("ignore_merges"):  # both find such whole words; tiktoken would merge to them too
        rest = sorted(vocab.keys() - names.keys(), key=vocab.__getitem__)
        if any(name[:i] in vocab and name[i:] in vocab for name in rest for i in range(1, len(name))):
            raise Unlike("its vocabulary has tokens that come from no merge and have two of it as parts")
        names |= dict.fromkeys(rest)
    return {name: vocab[name] for name in names}


def _long_run(text: str) -> bool:
    """Tell whether some aligned half of a long run is all white space; true wherever a whole run is."""
    half = LONG_RUN // 2
    return any(text[i : i + half].isspace() for i in range(0, len(text) - half + 1, half))
