"""tiktoken is taken where its ids are the reference's, and there only; and it is watched while it works."""

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
from world.encoding_shapes import LLAMA3, NASTY, SHAPES, blocked, build, read, split, write

from ropewalk.data import DataError, DataSpec, Encoder, load_encoder, prepare, read_manifest
from ropewalk.data.encoding import tiktoken
from ropewalk.data.encoding.backends import HuggingFace
from ropewalk.data.encoding.encoder import _examined
from ropewalk.data.encoding.tiktoken import SHARE, Unlike, tried

Fields = dict[str, Any]
texts = st.lists(st.sampled_from(NASTY), max_size=40).map("".join)


def same(ours: Encoder, theirs: Encoder, text: str) -> bool:
    return np.array_equal(ours.encode([text])[0], theirs.encode([text])[0])


def pair(folder: Path) -> tuple[Encoder, Encoder]:
    return load_encoder(folder, engine="tiktoken"), load_encoder(folder, engine="tokenizers")


@pytest.mark.parametrize("name", SHAPES)
@given(text=texts | st.text(max_size=40))
def test_ids_are_the_references(both: dict[str, tuple[Encoder, Encoder]], name: str, text: str):
    assert same(*both[name], text)


@pytest.mark.parametrize("name", SHAPES)
def test_tiktoken_does_the_work(encoders: dict[str, Encoder], name: str, monkeypatch: pytest.MonkeyPatch):
    """Of texts without anything odd, the reference sees the share that is checked."""
    encoder, asked = encoders[name], []
    assert encoder.engine == "tiktoken"
    assert "wherever both are asked" in encoder.why
    theirs = HuggingFace.encode
    monkeypatch.setattr(HuggingFace, "encode", lambda self, texts: asked.extend(texts) or theirs(self, texts))
    given = [f"def f(x):\n    return 'l\u00e9t' + {i} \u4e2d\u6587\r\n" for i in range(10 * SHARE)]
    assert all(tokens.dtype == np.uint32 for tokens in encoder.encode(given))
    assert 2 <= len(asked) <= 30


@pytest.mark.parametrize(
    ("name", "character"),
    [("gpt2", " "), ("gpt2", " \n"), ("llama3", "\n"), ("llama3", "a"), ("llama3", "\u4e2d")],
)
def test_a_long_run_neither_hangs_nor_fails(
    both: dict[str, tuple[Encoder, Encoder]], name: str, character: str
):
    """tiktoken alone gives up at a million white spaces before a letter."""
    assert same(*both[name], "x" + character * (1_050_000 // len(character)) + "y")


def test_what_a_pattern_leaves_out_is_not_lost(tmp_path: Path):
    ours, theirs = pair(build(tmp_path, split(r"\p{L}+|\p{N}+")))
    assert same(ours, theirs, "a  --  b!1")
    assert ours.decode(ours.encode(["a  --  b!1"])[0]) == "a  --  b!1"


def test_added_tokens_are_found_as_the_reference_does(tmp_path: Path):
    added = (AddedToken("<tool>", normalized=False), AddedToken("\u00e9x", normalized=True, lstrip=True))
    ours, theirs = pair(build(tmp_path, split(LLAMA3), normalizer=normalizers.NFC(), added=added))
    text = "a <tool>b  \u00e9x <|end|>"
    assert same(ours, theirs, text)
    assert ours.backend.token_to_id("<tool>") in ours.encode([text])[0]
    assert ours.padding not in ours.encode([text])[0]


def test_characters_that_one_library_does_not_know_go_to_the_reference(
    folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
):
    """A library of an older Unicode is made by what is told of it."""
    monkeypatch.setattr(tiktoken, "characters_known_to_one", lambda **_: frozenset("\u0378\u4e2d"))
    content = (folders["llama3"] / "tokenizer.json").read_bytes()
    made = tried(content, json.loads(content))
    assert made.alone("a\u4e2d") is None is made.alone("\u0378")
    assert made.alone("ab\u6587") is not None


def test_whole_pieces_are_looked_up_first_as_in_llama_3(tmp_path: Path):
    """A token that merges never reach: both libraries find it as a whole piece, where the file says so."""
    folder, token = blocked(tmp_path / "llama3", ignore_merges=True)
    ours, theirs = pair(folder)
    assert load_encoder(folder).engine == "tiktoken"
    for text in (token, f" {token}", f"{token}{token}", f"x{token}\n", *NASTY, "".join(NASTY)):
        assert same(ours, theirs, text)
    assert len(theirs.encode([token])[0]) == 1


def test_a_whole_piece_that_no_merge_makes_is_found_by_both(folders: dict[str, Path], tmp_path: Path):
    fields = read(folders["llama3"] / "tokenizer.json")
    _whole_word("zqzq")(fields)
    write(tmp_path / "tokenizer.json", fields)
    write(tmp_path / "tokenizer_config.json", {"eos_token": "<|end|>"})
    ours, theirs = pair(tmp_path)
    assert load_encoder(tmp_path).engine == "tiktoken"
    assert len(theirs.encode(["zqzq"])[0]) == 1
    for text in ("zqzq", " zqzq", "zqzqzq", "xzqzq\n", "zq zqzq1zqzq"):
        assert same(ours, theirs, text)


def test_the_probe_refuses_a_tokenizer_that_merges_otherwise(tmp_path: Path):
    """The same file without `ignore_merges`: the reference goes by its merges, tiktoken looks up first."""
    folder, token = blocked(tmp_path, ignore_merges=False)
    encoder = load_encoder(folder)
    assert encoder.engine == "tokenizers"
    assert repr(token) in encoder.why
    assert encoder.backend.decode_each(encoder.encode([token])[0]) == ["q", "jx", "z"]


def test_what_the_probe_did_not_see_stops_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    folder, token = blocked(tmp_path, ignore_merges=False)
    monkeypatch.setattr(tiktoken, "probe", lambda _: ["nothing hard"])
    _examined.cache_clear()
    ours, theirs = pair(folder)
    _examined.cache_clear()
    assert len(ours.encode(["fine"] * 5 * SHARE)) == 5 * SHARE
    with pytest.raises(DataError, match=rf"alike by tiktoken, .*{token}.*data\.engine: tokenizers") as told:
        ours.encode([f"some text 1{token}"] * 5 * SHARE)
    assert str(theirs.encode([token])[0].tolist())[1:-1] in str(told.value)


@pytest.mark.parametrize("engine", ["tiktoken", "tokenizers"])
def test_a_recipe_may_name_the_engine(
    spec: Callable[..., DataSpec], tokenizer: Path, tmp_path: Path, engine: str
):
    prepare(spec(engine=engine), tokenizer_path=tokenizer, length=64, folder=tmp_path)
    assert read_manifest(tmp_path / "corpus", "corpus")["engine"] == engine


def _swap(fields: Fields) -> None:
    merges = fields["model"]["merges"]
    merges[20], merges[-1] = merges[-1], merges[20]


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


def _whole_word(name: str) -> Callable[[Fields], None]:
    """Take words of the vocabulary as they are, with one in it that no merge makes."""

    def change(fields: Fields) -> None:
        fields["model"]["ignore_merges"] = True
        fields["model"]["vocab"][name] = len(fields["model"]["vocab"]) + len(fields["added_tokens"])

    return change


UNLIKE: dict[str, tuple[Callable[[Fields], None], str]] = {
    "merges in another order": (_swap, "order of their ids"),
    "whole words of two tokens": (_whole_word("zq"), "no merge"),
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


@pytest.mark.parametrize("case", UNLIKE)
def test_what_is_unlike_is_left_to_the_reference(folders: dict[str, Path], case: str, tmp_path: Path):
    change, said = UNLIKE[case]
    fields = read(folders["llama3"] / "tokenizer.json")
    change(fields)
    write(tmp_path / "tokenizer.json", fields)
    write(tmp_path / "tokenizer_config.json", {"eos_token": "<|end|>"})
    encoder = load_encoder(tmp_path)
    assert encoder.engine == "tokenizers"
    assert said in encoder.why


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
    return {
        "vocab": dict(tiktoken._letters()) | {token: 256 + i for i, token in enumerate(made)},
        "merges": merges,
    }


@settings(max_examples=60)
@given(model=small_merges())
def test_what_passes_merges_as_tiktoken_does_on_every_word(model: Fields):
    """Merges in the order of their ids, each token made of its own bytes: then every word of up to seven
    letters has the same ids."""
    tokenizer = Tokenizer(models.BPE(**model))
    tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=False)
    content = tokenizer.to_str().encode()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiktoken, "HARD", ("a", " "))
        patch.setattr(tiktoken, "CHARACTERS", "ab")
        try:
            made = tried(content, json.loads(content))
        except Unlike:
            return
    words = ["".join(word) for n in range(1, 8) for word in itertools.product("ab", repeat=n)]
    for word, theirs in zip(words, HuggingFace(content).encode(words), strict=True):
        assert made.encoding.encode_ordinary(word) == theirs.tolist()


@pytest.mark.slow
@pytest.mark.parametrize("name", SHAPES)
def test_every_character_beside_every_kind(both: dict[str, tuple[Encoder, Encoder]], name: str):
    characters = [chr(i) for i in range(0x110000) if not 0xD800 <= i < 0xE000]
    for before, after in (("a", "b"), ("1", "1"), ("  ", "  "), ("'", "l"), ("!", "\n"), ("\n", "x")):
        parts = [f"{before}{c}{after}" for c in characters]
        for i in range(0, len(parts), 1000):
            text = "".join(parts[i : i + 1000])
            ours = both[name][0].backend.alone(text)  # pyright: ignore[reportAttributeAccessIssue]
            assert ours is None or np.array_equal(ours, both[name][1].encode([text])[0]), hex(i)
