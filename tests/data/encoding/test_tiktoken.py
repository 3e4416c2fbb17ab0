"""tiktoken is taken where its ids are the reference's, and there only."""

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, models, normalizers
from tokenizers.pre_tokenizers import ByteLevel
from world.encoding_shapes import LLAMA3, NASTY, SHAPES, build, read, split, write

from ropewalk.data import Encoder, load_encoder
from ropewalk.data.encoding.backends import HuggingFace
from ropewalk.data.encoding.patterns import AFTER_DIGITS, UnprovenError, odd_characters
from ropewalk.data.encoding.tiktoken import LETTERS, build_ranks, prove_merges

Fields = dict[str, Any]
texts = st.lists(st.sampled_from(NASTY), max_size=40).map("".join)


def same(ours: Encoder, theirs: Encoder, text: str) -> bool:
    return np.array_equal(ours.encode([text])[0], theirs.encode([text])[0])


@pytest.mark.parametrize("name", SHAPES)
@given(text=texts | st.text(max_size=40))
def test_ids_are_the_references(both: dict[str, tuple[Encoder, Encoder]], name: str, text: str):
    assert same(*both[name], text)


@pytest.mark.parametrize("name", SHAPES)
def test_tiktoken_does_the_work(encoders: dict[str, Encoder], name: str, monkeypatch: pytest.MonkeyPatch):
    encoder = encoders[name]
    assert encoder.engine == "tiktoken"
    assert "proven" in encoder.why
    monkeypatch.setattr(HuggingFace, "encode", lambda *_: pytest.fail("the reference was asked"))
    (tokens,) = encoder.encode(["def f(x):\n    return 'l\u00e9' + 123 \u4e2d\u6587\r\n" * 9])
    assert tokens.dtype == np.uint32


@pytest.mark.parametrize(
    ("name", "character"),
    [
        ("gpt2", " "),
        ("gpt2", " \n"),
        ("llama3", " "),
        ("llama3", "\n"),
        ("llama3", "a"),
        ("llama3", "\u4e2d"),
    ],
)
def test_a_long_run_neither_hangs_nor_fails(
    both: dict[str, tuple[Encoder, Encoder]], name: str, character: str
):
    """tiktoken alone gives up at a million white spaces before a letter."""
    assert same(*both[name], "x" + character * (1_050_000 // len(character)) + "y")


def test_what_a_pattern_leaves_out_is_not_lost(tmp_path: Path):
    folder = build(tmp_path, split(r"\p{L}+|\p{N}+"))
    ours, theirs = (load_encoder(folder, engine=engine) for engine in ("tiktoken", "tokenizers"))
    assert same(ours, theirs, "a  --  b!1")
    assert ours.decode(ours.encode(["a  --  b!1"])[0]) == "a  --  b!1"


def test_added_tokens_are_found_as_the_reference_does(tmp_path: Path):
    added = (AddedToken("<tool>", normalized=False), AddedToken("\u00e9x", normalized=True, lstrip=True))
    folder = build(tmp_path, split(LLAMA3), normalizer=normalizers.NFC(), added=added)
    ours, theirs = (load_encoder(folder, engine=engine) for engine in ("tiktoken", "tokenizers"))
    text = "a <tool>b  \u00e9x <|end|>"
    assert same(ours, theirs, text)
    assert ours.backend.token_to_id("<tool>") in ours.encode([text])[0]
    assert ours.padding not in ours.encode([text])[0]


def test_a_digit_that_one_library_does_not_know(both: dict[str, tuple[Encoder, Encoder]]):
    for character in odd_characters(r"\p{N}|" + AFTER_DIGITS) or "7":
        assert same(*both["single digits"], f"a {character} {character}{character}  {character}\n")


def _swap(fields: Fields) -> None:
    merges = fields["model"]["merges"]
    merges[20], merges[-1] = merges[-1], merges[20]


def _orphan(fields: Fields) -> None:
    fields["model"]["vocab"]["qqzz"] = len(fields["model"]["vocab"]) + 9


def _prefix(fields: Fields) -> None:
    fields["pre_tokenizer"]["pretokenizers"][-1]["add_prefix_space"] = True


def _another_step(fields: Fields) -> None:
    fields["pre_tokenizer"]["pretokenizers"].insert(0, {"type": "Whitespace"})


def _pattern(pattern: str) -> Callable[[Fields], None]:
    def change(fields: Fields) -> None:
        fields["pre_tokenizer"]["pretokenizers"][0]["pattern"] = {"Regex": pattern}

    return change


def _model(**changes: Any) -> Callable[[Fields], None]:
    return lambda fields: fields["model"].update(changes)


def _whole_words(fields: Fields) -> None:
    """Take words of the vocabulary as they are, with one in it that is a name only."""
    fields["model"]["ignore_merges"] = True
    fields["model"]["vocab"]["<|end|>"] = next(
        token["id"] for token in fields["added_tokens"] if token["content"] == "<|end|>"
    )


UNPROVEN: dict[str, tuple[Callable[[Fields], None], str]] = {
    "merges in another order": (_swap, "merges"),
    "a token that no merge makes": (_orphan, "no merge"),
    "whole words with a name": (_whole_words, "no merge"),
    "a space in front": (_prefix, "plain ByteLevel"),
    "steps of another kind": (_another_step, "shape"),
    "looking behind": (_pattern(r"(?<=a)b|" + LLAMA3), "regex engines"),
    "as little as possible": (_pattern(r"\p{L}+?|" + LLAMA3), "regex engines"),
    "a repeat of a repeat": (_pattern(r"\p{N}{1,3}+|" + LLAMA3), "regex engines"),
    "hexadecimal digits or spaces": (_pattern(r"\h+|" + LLAMA3), "regex engines"),
    "a class within a class": (_pattern(r"[a-z&&[^b]]+|" + LLAMA3), "regex engines"),
    "another normalizer": (lambda f: f.update(normalizer={"type": "NFKC"}), "NFKC"),
    "dropout": (_model(dropout=0.1), "dropout"),
    "a suffix": (_model(end_of_word_suffix="</w>"), "suffix"),
}  # fmt: skip


@pytest.mark.parametrize("case", UNPROVEN)
def test_what_is_not_proven_is_left_to_the_reference(folders: dict[str, Path], case: str, tmp_path: Path):
    change, said = UNPROVEN[case]
    fields = read(folders["llama3"] / "tokenizer.json")
    change(fields)
    write(tmp_path / "tokenizer.json", fields)
    write(tmp_path / "tokenizer_config.json", {"eos_token": "<|end|>"})
    encoder = load_encoder(tmp_path)
    assert encoder.engine == "tokenizers"
    assert said in encoder.why


def test_merges_in_another_order_would_have_other_ids(folders: dict[str, Path]):
    """The case above is no false alarm."""
    fields = read(folders["llama3"] / "tokenizer.json")
    tokens = sorted(token for token in fields["model"]["vocab"] if len(token) > 4)
    fields["model"]["merges"].reverse()
    reference = HuggingFace(json.dumps(fields).encode())
    ranks = build_ranks(fields, reference, "")
    assert any(
        ours.tolist() != theirs.tolist()
        for ours, theirs in zip(ranks.encode(tokens), reference.encode(tokens), strict=True)
    )


@st.composite
def small_merges(draw: st.DrawFn) -> Fields:
    """Give a model over the letters a and b whose merges come in any order, some of them twice or never
    met."""
    tokens = ["a", "b"]
    merges: list[tuple[str, str]] = []
    for _ in range(draw(st.integers(1, 7))):
        pair = draw(st.sampled_from(tokens)), draw(st.sampled_from(tokens))
        if pair not in merges and len("".join(pair)) <= 6:
            merges.append(pair)
            tokens += ["".join(pair)] * ("".join(pair) not in tokens)
    made = tokens[2:]
    if draw(st.booleans()):
        made = draw(st.permutations(made))
    vocab = LETTERS | {token: 256 + i for i, token in enumerate(made)}
    model = {"type": "BPE", "vocab": vocab, "merges": merges}
    return {
        "model": model,
        "added_tokens": [],
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False},
    }


@settings(max_examples=150)
@given(fields=small_merges())
def test_proven_merges_are_those_of_tiktoken_on_every_word(fields: Fields):
    """The theorem, on all words of up to seven letters; where it does not speak, tiktoken may be right or
    not."""
    try:
        prove_merges(fields)
    except UnprovenError:
        return
    tokenizer = Tokenizer(models.BPE(vocab=fields["model"]["vocab"], merges=fields["model"]["merges"]))
    tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=False)
    reference = HuggingFace(tokenizer.to_str().encode())
    ranks = build_ranks(fields, reference, "")
    words = ["".join(word) for n in range(1, 8) for word in itertools.product("ab", repeat=n)]
    for ours, theirs in zip(ranks.encode(words), reference.encode(words), strict=True):
        assert ours.tolist() == theirs.tolist()


def test_the_theorem_speaks_and_is_silent():
    """Two merges of three letters, in the order of their ids and in the other."""
    merges = [("a", "b"), ("ab", "a")]
    for ids, proven in (((256, 257), True), ((257, 256), False)):
        vocab = LETTERS | {"ab": ids[0], "aba": ids[1]}
        fields = {"model": {"vocab": vocab, "merges": merges}, "added_tokens": []}
        if proven:
            prove_merges(fields)
        else:
            with pytest.raises(UnprovenError, match="aba"):
                prove_merges(fields)


@pytest.mark.slow
@pytest.mark.parametrize("name", SHAPES)
def test_every_character_beside_every_kind(both: dict[str, tuple[Encoder, Encoder]], name: str):
    characters = [chr(i) for i in range(0x110000) if not 0xD800 <= i < 0xE000]
    for before, after in (("a", "b"), ("1", "1"), ("  ", "  "), ("'", "l"), ("!", "\n"), ("\n", "x")):
        parts = [f"{before}{c}{after}" for c in characters]
        for i in range(0, len(parts), 1000):
            assert same(*both[name], "".join(parts[i : i + 1000])), hex(i)
