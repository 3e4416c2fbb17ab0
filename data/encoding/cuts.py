"""Where may a text be cut so that its pieces have the ids of the whole?

Byte-level pre-tokenizers walk over a text and look at most at the next character, so most of them never let a
token cross the begin of a line. What they do with white space before it differs, so there are several places
to try. Each is tried on a probe for each tokenizer: the classes of characters that patterns tell apart, on
both sides of line ends of many forms. What is compared is how it splits the text, as the model sees each part
alone; ids may agree by chance.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache, partial
from itertools import product
from typing import Any

from tokenizers.pre_tokenizers import PreTokenizer

from .backends import HuggingFace

PIECE = 1_000_000

_ITEM = r"\\[pP]\{\w+\}|\\[sSrnt]|\\[^\w\s]|&(?!&)|~(?!~)|[^\\\[\]&~-](?:-[^\\\[\]&~-])?"
_CLASS = rf"\[\^?(?:{_ITEM})+\]|\\[pP]\{{\w+\}}|\\[sS]"
_TIMES = r"(?:[?*+]\+?|\{\d+,?\d*\})(?![?*+{])"
PLAIN = re.compile(
    rf"(?:(?:\(\?i:[^()\\.^$]*\)|{_CLASS}|\\[rnt]|\\[^\w\s]|[^\\\[\](){{}}?*+|^$.]|\))(?:{_TIMES})?"
    r"|\(\?[:!]|\|)+"
)
"""A pattern without anchors, without looking behind, with nothing that remembers, and nothing that regex
engines read differently."""

LINE_ENDS = (
    r"\S\n(?={})",  # after the end of a line that ends in no white space: nearly all tokenizers
    r"[\r\n](?={})",  # after any line ends: where these are one token, as in Llama 3
    r"\s(?=\n{})",  # before the last line end of several: where `\s+(?!\S)` stops, as in GPT-2
)
NEXT = (r"\S", r"\w")
"""What comes next: anything but white space, or letters and digits only, for who joins line ends and
punctuation (`[\\r\\n/]*`)."""

NORMALIZERS = ({"type": "NFC"}, {"type": "Sequence", "normalizers": []})
"""Those that do not reach over a line end."""

_LEFT = (
    *"aZ5_.,;:!?)]}>\"'`~@#$%^&*+=|\\/<-",
    *"\u00e9\u00df\u0130\u017f\u4e2d\u3042\ud55c\u0639\u05d0\u0e01\u0905\u01c5\u02b0\u00aa",  # letters
    *"\u0660\u0967\u00b2\u00bd\u2167\uff15",  # numbers
    *"\u0301\u093f\u20dd\ufe0f\u200b\u200d\u200e\ufeff\u00ad\u0000\u007f",  # marks, things without width
    *"\u20ac\u2014\u00ab\u3002\u2028\u00a0\u2003\U0001f600\U0001f3fd\ue000\ufffd\U000e0041",  # the rest
)
_RUNS = ("a1!", "ab" * 20, "1234", "!?" * 9, "don't", "'s", "x'", "'LL", "  a", "\t}", " -", "e\u0301\u0301")
_ENDS = ("\n", "\r\n", "\n\n", " \n", "\t\n", "\r\n\r\n", " \n \n", "\u00a0\n", "\n   \n")
_RIGHT = (
    *("a", "Z1", "12345", "_", "s", "ll", "t's", "\u00e9", "\u4e2d\u6587", "\u0639", "\u0660", "\u00bd"),
    *("a\u0301", "re 1", "x\n\ny", "'s", "//\n", "=\n"),
    *"/{<'#-.\"!\u0301\u200b\u3002\U0001f600",
)


def cut_places(fields: Mapping[str, Any], backend: HuggingFace) -> re.Pattern[str] | None:
    """Give the places after whose match the tokenizer of these tokenizer.json fields may be cut; None where
    there are none."""
    if not _may_be_cut(fields):
        return None
    texts = [left + end + right for left, end, right in product((*_LEFT, *_RUNS), _ENDS, _RIGHT)]
    split = cache(partial(_split, backend.tokenizer.pre_tokenizer))
    held = [_widest(line_end, split, texts) for line_end in LINE_ENDS]
    return re.compile("|".join(filter(None, held))) if any(held) else None


def pieces(blocks: Iterable[str], places: re.Pattern[str] | None, at_least: int = PIECE) -> Iterator[str]:
    """Give the same text in pieces of `at_least` characters and on to the next place to cut, whatever the
    blocks; all in one without places."""
    if places is None:
        if text := "".join(blocks):
            yield text
        return
    text, seen = "", 0
    for block in blocks:
        text += block
        begin = 0
        while cut := places.search(text, max(begin + at_least, seen)):
            yield text[begin : cut.end()]
            begin, seen = cut.end(), 0
        text = text[begin:]
        seen = max(0, len(text) - 3)  # a place is at most two characters and the two after them
    if text:
        yield text


def _widest(line_end: str, split: Callable[[str], list[str]], texts: list[str]) -> str:
    """Give the place with as much of NEXT behind it as holds in all texts; empty where none does."""
    for next_ in NEXT:
        place = line_end.format(next_)
        if all(_holds(re.compile(place), split, text) for text in texts):
            return place
    return ""


def _split(splitter: PreTokenizer, text: str) -> list[str]:
    return [piece for piece, _ in splitter.pre_tokenize_str(text)]


def _holds(place: re.Pattern[str], split: Callable[[str], list[str]], text: str) -> bool:
    """Tell whether a text, cut at its first such place if any, keeps what the model sees one by one."""
    cut = place.search(text)
    return not cut or split(text[: cut.end()]) + split(text[cut.end() :]) == split(text)


def _may_be_cut(fields: Mapping[str, Any]) -> bool:
    """Tell whether nothing in the tokenizer reaches across a line end that the probe might miss."""
    added = [token for token in fields["added_tokens"] if not token["special"]]
    reach = any(token["lstrip"] or token["rstrip"] or re.search(r"\s", token["content"]) for token in added)
    if fields.get("normalizer") not in (None, *NORMALIZERS):
        return False
    splitter = fields.get("pre_tokenizer") or {}
    steps = splitter["pretokenizers"] if splitter.get("type") == "Sequence" else [splitter]
    return not reach and bool(steps) and all(map(_looks_ahead, steps))


def _looks_ahead(step: Mapping[str, Any]) -> bool:
    pattern = step.get("pattern", {}).get("Regex")
    return step.get("type") in ("ByteLevel", "Digits") or (
        pattern is not None and bool(PLAIN.fullmatch(pattern))
    )
