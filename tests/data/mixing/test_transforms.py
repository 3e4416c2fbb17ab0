"""Contracts of every transform, and what interleave gives."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field
from world.small_corpus import SmallCorpus, SmallWriter, chosen_of, data_spec

from ropewalk.data import DataError
from ropewalk.data.mixing.choose import Chosen
from ropewalk.data.mixing.transform import Cut, Encode, Given, Inserted, Piece, Transform, transform
from ropewalk.data.mixing.transforming import groups

LENGTHS = st.lists(st.integers(1, 60), min_size=1, max_size=20)


def encode(text: str) -> np.ndarray:
    return np.frombuffer(text.encode(), np.uint8).astype(np.uint32)


def given_documents(lengths: Sequence[int]) -> list[Given]:
    """Give documents whose token n is 1000 d + n."""
    return [
        Given(length=length, read=lambda start, stop, d=d: np.arange(start, stop, dtype=np.uint32) + 1000 * d)
        for d, length in enumerate(lengths)
    ]


def made(name: str, lengths: Sequence[int], seed: int) -> list[list[Piece]]:
    return list(transform.make(name, {})(given_documents(lengths), np.random.default_rng(seed), encode))


@pytest.mark.parametrize("name", transform.known)
@given(lengths=LENGTHS, seed=st.integers(0, 99))
def test_a_lossless_transform_gives_every_token_once_in_its_document_s_order(
    name: str, lengths: list[int], seed: int
):
    kind = transform.make(name, {})
    lengths = lengths[: kind.documents]
    spans: list[list[tuple[int, int]]] = [[] for _ in lengths]
    for pieces in made(name, lengths, seed):
        for piece in pieces:
            if isinstance(piece, Cut):
                assert 0 <= piece.start < piece.start + piece.length <= lengths[piece.document]
                spans[piece.document].append((piece.start, piece.start + piece.length))
    if kind.lossless:
        for own, length in zip(spans, lengths, strict=True):
            assert [start for start, _ in own] == [0, *(stop for _, stop in own[:-1])]
            assert own[-1][1] == length


@pytest.mark.parametrize("name", transform.known)
@given(lengths=LENGTHS, seed=st.integers(0, 99))
def test_a_transform_depends_on_its_documents_and_the_generator_alone(
    name: str, lengths: list[int], seed: int
):
    assert repr(made(name, lengths, seed)) == repr(made(name, lengths, seed))


@pytest.mark.parametrize("name", transform.known)
def test_a_transform_may_be_named_and_its_knobs_are_its_own(name: str):
    corpus = SmallCorpus({"a": [40] * 12})
    spec = data_spec({"a": {"weight": 1, "transform": {"kind": name}}}, tokens=300)
    assert chosen_of(spec, corpus)["a"].lengths.sum() == 300
    with pytest.raises(DataError, match="nosuchknob"):
        transform.make(name, {"nosuchknob": 1})


def test_chunks_stand_in_turn():
    (pieces,) = transform.make("interleave", {"chunks": 2})(
        given_documents([10, 20, 30]), np.random.default_rng(0), encode
    )
    assert [piece.document for piece in pieces if isinstance(piece, Cut)] == [0, 1, 2, 0, 1, 2]


def test_every_place_is_as_likely():
    kind = transform.make("interleave", {"chunks": 3})
    rng = np.random.default_rng(0)
    cuts = [next(kind(given_documents([5, 1]), rng, encode)) for _ in range(600)]
    firsts = [(p[0].length, p[2].length) for p in cuts if isinstance(p[0], Cut) and isinstance(p[2], Cut)]
    counts = np.unique(firsts, axis=0, return_counts=True)[1]  # 4 places, 2 of them: 6 ways
    assert len(counts) == 6
    assert counts == pytest.approx(100, abs=46)  # 5 sigma


@given(lengths=LENGTHS, documents=st.integers(2, 5), chunks=st.integers(2, 4), repeat=st.integers(1, 3))
def test_interleaved_documents_are_whole_again(lengths: list[int], documents: int, chunks: int, repeat: int):
    corpus = SmallCorpus({"a": lengths})
    knobs = {"kind": "interleave", "documents": documents, "chunks": chunks}
    plain = {"weight": 1, "repeat": repeat}
    total = repeat * sum(lengths)
    as_they_are = chosen_of(data_spec({"a": plain}, tokens=total), corpus)["a"]
    own = chosen_of(data_spec({"a": plain | {"transform": knobs}}, tokens=total), corpus)["a"]
    assert own.lengths.sum() == total
    assert own.items.trained.all()
    assert len(own.lengths) == repeat * -(-len(lengths) // documents)
    for row, length in enumerate(lengths):
        spans = own.items.start[own.items.row == row], own.items.length[own.items.row == row]
        ends = np.cumsum(spans[1])
        assert ends[-1] == repeat * length
        assert (spans[0] == (ends - spans[1]) % length).all()
    assert sorted(set(as_they_are.items.row)) == sorted(set(own.items.row))


def spans_of(own: Chosen) -> list[list[tuple[int, int, int]]]:
    """Give each item's spans."""
    spans: list[list[tuple[int, int, int]]] = [[] for _ in own.lengths]
    for item, *span in zip(own.items.item, own.items.row, own.items.start, own.items.length, strict=True):
        spans[item].append((int(span[0]), int(span[1]), int(span[2])))
    return spans


def interleaved(corpus: SmallCorpus, tokens: int, **fields) -> list[list[tuple[int, int, int]]]:
    source = {"weight": 1, "repeat": 3, "transform": {"kind": "interleave"}}
    return spans_of(chosen_of(data_spec({"a": source}, tokens=tokens, **fields), corpus)["a"])


def test_copies_differ_and_seeds_differ():
    corpus = SmallCorpus({"a": [900, 901, 902]})
    first, second, third = interleaved(corpus, 3 * 2703)
    assert len({str(sorted(spans)) for spans in (first, second, third)}) == 3
    assert {row for row, _, _ in first} == {row for row, _, _ in second} == {0, 1, 2}
    assert interleaved(corpus, 2703, seed=1) != [first]


@given(order=st.permutations(range(9)))
def test_a_made_document_does_not_depend_on_the_order_on_disk_nor_on_the_budget(order: list[int]):
    lengths = [10 * i + 50 for i in range(9)]
    corpus, other = SmallCorpus({"a": lengths}), SmallCorpus({"a": [lengths[i] for i in order]}, ids=order)
    small, large = interleaved(corpus, 500), interleaved(other, sum(lengths))
    large = [[(order[row], start, length) for row, start, length in spans] for spans in large]
    whole = len(small) - 1  # the last may have been short of documents
    assert small[:whole] == large[:whole]


@given(sizes=st.lists(st.integers(1, 7), min_size=1, max_size=4), size=st.integers(1, 4))
def test_groups_stay_in_their_part(sizes: list[int], size: int):
    part = np.repeat(np.arange(len(sizes)), sizes)
    found = list(groups(part, size))
    assert np.concatenate(found).tolist() == list(range(len(part)))
    assert all(len(set(part[group])) == 1 and len(group) <= size for group in found)
    assert len(found) == sum(-(-own // size) for own in sizes)


@pytest.fixture
def knots() -> Iterator[str]:
    """Add a transform as one file would: tokens of its own, masked, before each document."""

    @transform("knots")
    @dataclass(frozen=True, kw_only=True)
    class Knots(Transform):
        tokens: Annotated[int, Field(ge=1)] = 3

        def __call__(
            self, documents: Sequence[Given], rng: np.random.Generator, encode: Encode
        ) -> Iterator[list[Piece]]:
            (document,) = documents
            assert len(document.read(0, document.length)) == document.length
            knot = encode("".join(rng.choice(list("abc"), self.tokens)))
            yield [Inserted(knot), Cut(0, 0, document.length), Inserted(encode("!"), trained=True)]

    yield "knots"
    del transform.known["knots"]


def test_an_added_transform_is_one_class(knots: str):
    corpus, writer = SmallCorpus({"a": [20] * 10}), SmallWriter()
    source = {"weight": 1, "transform": {"kind": knots, "tokens": 4}}
    own = chosen_of(data_spec({"a": source}, tokens=200), corpus, writer=writer)["a"]
    assert own.lengths.tolist() == [25] * 8
    assert own.dropped == {"pushed_out": {"documents": 2, "tokens": 50}}
    inserted = own.items.row >= len(corpus)
    assert own.items.row[inserted].tolist() == [10 + n for n in range(16)]
    assert own.items.trained.tolist() == [False, True, True] * 8
    assert own.items.length.tolist() == [4, 20, 1] * 8
    assert {len(row) for row in writer.rows} == {4, 1}
    assert len({tuple(row) for row in writer.rows[::2]}) > 1


@pytest.fixture
def torn() -> Iterator[str]:
    @transform("torn")
    @dataclass(frozen=True, kw_only=True)
    class Torn(Transform):
        start: int = 0
        length: int = 1

        def __call__(
            self, documents: Sequence[Given], rng: np.random.Generator, encode: Encode
        ) -> Iterator[list[Piece]]:
            yield [Cut(0, self.start, self.length)]

    yield "torn"
    del transform.known["torn"]


@pytest.mark.parametrize(("start", "length"), [(0, 11), (-1, 3), (10, 1), (0, 0)])
def test_a_span_outside_its_document_is_refused(torn: str, start: int, length: int):
    source = {"weight": 1, "transform": {"kind": torn, "start": start, "length": length}}
    with pytest.raises(DataError, match=rf"transform: torn .*start={start}, length={length}"):
        chosen_of(data_spec({"a": source}, tokens=20), SmallCorpus({"a": [10] * 2}))


def test_what_a_transform_loses_is_counted(torn: str):
    source = {"weight": 1, "transform": {"kind": torn, "length": 7}}
    own = chosen_of(data_spec({"a": source}, tokens=20), SmallCorpus({"a": [10] * 2}))["a"]
    assert own.achieved["tokens"] == 14
    assert own.dropped == {"transform": {"documents": 0, "tokens": 6}}
