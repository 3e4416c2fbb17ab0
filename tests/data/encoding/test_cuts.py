"""A text in pieces has the ids of the whole, wherever pieces are made at all."""

import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken, normalizers
from tokenizers.pre_tokenizers import ByteLevel
from world.encoding_shapes import BYTES, LLAMA3, NASTY, SHAPES, build, split

from ropewalk.data import Encoder, load_encoder
from ropewalk.data.encoding.cuts import LINE_ENDS, PIECE, pieces

lines = st.lists(st.sampled_from(NASTY), max_size=8).map("".join)
breaks = st.sampled_from(("\n", "\n", "\n\n", "\r\n", "\r\n\r\n", " \n", "\n \n", "\u2028\n"))
words = st.sampled_from(("a", "Z", "1", "12", "_", "s", "'s", "\u4e2d", "\u0660", "/", "-", " ", "\u0301"))
blocks = st.lists(st.tuples(lines, breaks, words).map("".join), max_size=12)


def joined(encoder: Encoder, texts: list[str]) -> list[int]:
    return [int(token) for tokens in encoder.encode(texts) for token in tokens]


@pytest.mark.parametrize("name", SHAPES)
@given(blocks=blocks, at_least=st.integers(0, 12))
def test_pieces_have_the_ids_of_the_whole(
    encoders: dict[str, Encoder], name: str, blocks: list[str], at_least: int
):
    encoder = encoders[name]
    assert encoder.cuts
    made = list(pieces(blocks, encoder.places, at_least))
    assert "".join(made) == "".join(blocks)
    assert joined(encoder, made) == joined(encoder, ["".join(blocks)])


@given(text=st.lists(blocks.map("".join), max_size=4).map("".join), size=st.integers(1, 9))
def test_the_blocks_do_not_matter(encoders: dict[str, Encoder], text: str, size: int):
    places = encoders["llama3"].places
    parts = [text[i : i + size] for i in range(0, len(text), size)]
    assert list(pieces(parts, places, 10)) == list(pieces([text], places, 10))


def test_pieces_are_short_and_made_on_the_way(encoders: dict[str, Encoder]):
    taken = 0

    def endless() -> Iterator[str]:
        nonlocal taken
        while True:
            taken += 1
            yield "    value = 1\nprint(value)\n" * 1000

    made = encoders["gpt2"].pieces(endless())
    sizes = [len(next(made)) for _ in range(5)]
    assert all(PIECE <= size < PIECE + 100 for size in sizes)
    assert taken * 26_000 < sum(sizes) + 2 * PIECE


def test_a_text_without_a_place_stays_whole(encoders: dict[str, Encoder]):
    text = "a  b" * 700_000
    assert list(encoders["gpt2"].pieces([text, text])) == [text + text]
    assert list(encoders["gpt2"].pieces([])) == []


def test_blank_lines_and_carriage_returns_are_places(encoders: dict[str, Encoder]):
    """Prose of one line a paragraph, and files from other systems, are cut too."""
    assert len(list(pieces(["one\n\ntwo\n\nthree"], encoders["gpt2"].places, 1))) == 3
    assert len(list(pieces(["one\r\ntwo\r\nthree"], encoders["llama3"].places, 1))) == 3


def test_places_differ_by_tokenizer(encoders: dict[str, Encoder]):
    """What one splits by is wrong for the other, and the probe sees it."""
    held = {name: encoder.places.pattern for name, encoder in encoders.items() if encoder.places}
    assert held["gpt2"] == "|".join(LINE_ENDS[i].format(r"\S") for i in (0, 2))
    assert held["llama3"] == "|".join(LINE_ENDS[i].format(r"\S") for i in (0, 1))
    assert held["o200k"] == "|".join(LINE_ENDS[i].format(r"\w") for i in (0, 1))


@pytest.mark.parametrize(
    ("shape", "more"),
    [
        (split(LLAMA3), {"normalizer": normalizers.NFKC()}),
        (split(LLAMA3), {"normalizer": normalizers.Strip()}),
        (split(LLAMA3), {"added": (AddedToken("\n<x>", normalized=False),)}),
        (split(LLAMA3), {"added": (AddedToken("<x>", rstrip=True, normalized=False),)}),
        (ByteLevel(add_prefix_space=True), {}),
        (split(r"(?<=b\n)\p{L}+|" + LLAMA3), {}),
        (split(r"\s?\p{L}+|\s+|[^\s\p{L}]+"), {}),  # a line's first word holds the line end
        (split(r"[^\n]+\n\p{L}|" + LLAMA3), {}),
    ],
)
def test_tokenizers_that_reach_over_a_line_end(shape: Any, more: dict[str, Any], tmp_path: Path):
    encoder = load_encoder(build(tmp_path, shape, **more))
    assert not encoder.cuts
    assert list(encoder.pieces(["a\n", "b\n", "c" * 2_000_000])) == ["a\nb\n" + "c" * 2_000_000]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gpt2", "llama3", "single digits"])
def test_real_text_in_pieces(encoders: dict[str, Encoder], name: str):
    paths = sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))
    text = "".join(path.read_text("utf-8") for path in paths)[:4_000_000]
    made = list(pieces([text], encoders[name].places, 10_000))
    assert len(made) > 100
    whole = encoders[name].encode([text])[0]
    assert np.array_equal(np.concatenate(encoders[name].encode(made)), whole)


def test_byte_level_alone_has_places(tmp_path: Path):
    assert load_encoder(build(tmp_path, BYTES), engine="tokenizers").cuts
