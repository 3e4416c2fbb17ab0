"""Is there one regular expression that splits text as a tokenizer.json's pre-tokenizer does, in every regex
engine?

tokenizers matches with Oniguruma, tiktoken with fancy-regex. Both try alternatives from the left and step
back in the same way, so a pattern of plain parts (`PLAIN`) splits a text alike in both where each class of
characters in it holds the same characters of the text: that is compared over all of Unicode.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np
import tiktoken
from tokenizers import Regex
from tokenizers.normalizers import NFD, Replace
from tokenizers.pre_tokenizers import Digits, PreTokenizer, Split

GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
"""What `ByteLevel` splits by."""
AFTER_DIGITS = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?[^\s\p{L}\p{N}]+|\s+(?![^\s\p{N}])|\s+"
"""What `ByteLevel` does to text between digits: a digit ends it as the end of the text does."""

_ITEM = r"\\[pP]\{\w+\}|\\[sSrnt]|\\[^\w\s]|&(?!&)|~(?!~)|[^\\\[\]&~-](?:-[^\\\[\]&~-])?"
CLASS = rf"\[\^?(?:{_ITEM})+\]|\\[pP]\{{\w+\}}|\\[sS]"
FOLDED = r"\(\?i:[^()\\.^$]*\)"
"""A group that ignores case, without groups in it."""
TIMES = r"(?:[?*+]\+?|\{\d+,?\d*\})(?![?*+{])"
PLAIN = re.compile(
    rf"(?:(?:{FOLDED}|{CLASS}|\\[rnt]|\\[^\w\s]|[^\\\[\](){{}}?*+|^$.]|\))(?:{TIMES})?|\(\?[:!]|\|)+"
)
"""No anchors, no looking behind, nothing that remembers."""

CODE_POINTS = "".join(
    map(
        chr,
        [*range(0xD800), *range(0xE000, 0x34000), *range(0x34000, 0x110000, 251), *range(0xE0000, 0xE0200)],
    )
)
"""Unicode; the planes without characters are sampled."""
MOST_ODD = 2000


class UnprovenError(Exception):
    """Says in a few words why the reference must be used."""


def composes(normalizer: Mapping[str, Any] | None) -> bool:
    """Tell whether it is NFC, or nothing; UnprovenError where it is another."""
    if not normalizer or normalizer == {"type": "Sequence", "normalizers": []}:
        return False
    if normalizer["type"] != "NFC":
        raise UnprovenError(f"its normalizer is {normalizer['type']}")
    return True


def one_pattern(pre_tokenizer: Mapping[str, Any] | None) -> str:
    """Give the pattern that splits as these steps do, whose last turns bytes into letters; UnprovenError
    where the steps are of another shape."""
    fields = pre_tokenizer or {}
    steps = fields["pretokenizers"] if fields.get("type") == "Sequence" else [fields]
    *first, last = steps or [{}]
    if last.get("type") != "ByteLevel" or last.get("add_prefix_space", True):
        raise UnprovenError("its pre-tokenizer does not end in a plain ByteLevel")
    match first, last.get("use_regex", True):
        case [], True:
            return GPT2
        case [{"type": "Digits", "individual_digits": alone}], True:
            return (r"\p{N}|" if alone else r"\p{N}+|") + AFTER_DIGITS
        case [{"type": "Split", "pattern": {"Regex": pattern}, "behavior": how, "invert": invert}], False:
            if (how, invert) in (("Isolated", False), ("Removed", True)):
                return pattern
    raise UnprovenError("its pre-tokenizer has steps of an unknown shape")


@cache
def odd_characters(pattern: str) -> str:
    """Give the characters without which both regex engines split every text alike by this pattern: those
    that only one of them knows, being of another version of Unicode; UnprovenError where there are more."""
    if not PLAIN.fullmatch(pattern):
        raise UnprovenError("its pattern has parts that regex engines read differently")
    for group in set(re.findall(FOLDED, pattern)):
        if _found(group, _cased()) != _joined(Split(Regex(group), "removed", invert=True), _cased()):
            raise UnprovenError(f"its regex engine ignores case in {group} differently")
    odd: set[str] = set()
    for class_ in set(re.findall(CLASS, re.sub(FOLDED, "", pattern))):
        odd |= _torn(_found(f"{class_}+", CODE_POINTS), class_)
    if pattern.endswith(AFTER_DIGITS):
        odd |= _torn(_digits(), r"\p{N}")
    if len(odd) > MOST_ODD:
        raise UnprovenError(f"its regex engine has other classes of {len(odd)} characters")
    return "".join(sorted(odd))


def odd_in_nfc() -> str:
    """Give the characters that tokenizers composes or reorders and this Python does not know; on text
    without them both bring into NFC alike, as Unicode never changes that of a known character."""
    unknown = [c for c in CODE_POINTS if unicodedata.category(c) == "Cn"]
    parts = [f"x\u0301{c}\u0323" for c in unknown]  # a mark moves past one of these two, whatever its class
    found = ["x" + part for part in NFD().normalize_str("".join(parts)).split("x")[1:]]
    return "".join(
        sorted({c for new, old in zip(found, parts, strict=True) if new != old for c in new + old})
    )


def _torn(theirs: str, class_: str) -> set[str]:
    """Give the code points that are in `theirs` or in Oniguruma's class, and not in both."""
    times = np.zeros(0x110000, np.int8)
    for text in (theirs, Replace(Regex(f"{class_}+"), "").normalize_str(CODE_POINTS)):
        times[np.frombuffer(text.encode("utf-32-le"), np.uint32)] += 1
    all_ = np.frombuffer(CODE_POINTS.encode("utf-32-le"), np.uint32)
    return set(map(chr, all_[times[all_] != 1]))


def _found(pattern: str, text: str) -> str:
    """Give what tiktoken's regex engine finds in a text, all matches run together."""
    bytes_ = {bytes([i]): i for i in range(256)}
    finder = tiktoken.Encoding("finder", pat_str=pattern, mergeable_ranks=bytes_, special_tokens={})
    return bytes(finder.encode_ordinary(text)).decode()


def _joined(splitter: PreTokenizer, text: str) -> str:
    return "".join(piece for piece, _ in splitter.pre_tokenize_str(text))


@cache
def _digits() -> str:
    """Give what the step `Digits` takes for digits: every other piece, as U+0000 is none."""
    runs = Digits(individual_digits=False).pre_tokenize_str(CODE_POINTS)
    return "".join(piece for piece, _ in runs[1::2])


@cache
def _cased() -> str:
    """Give every character that has another case, after and before what contractions are made of."""
    cased = [c for c in CODE_POINTS[:0x1F000] if not c.lower() == c.upper() == c.casefold() == c]
    return "".join(f"'{c} 'l{c} 'r{c} 'v{c} '{c}l '{c}e {c}\n" for c in cased)
