"""Distances are counted as if one by one, every token and every pair of a group once; so are documents."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ropewalk.data import DataSpec, Plan, beyond, coverage, open_plan, prepare
from ropewalk.data.coverage import attention_cost, buckets
from ropewalk.data.packing.tables import Items, Scope, tables

SCOPES = [
    Scope(),
    Scope(positions="continuous"),
    Scope(groups="pack"),
    *(
        Scope(groups=groups, positions="skip", skip_chunks=chunks)
        for groups in ("document", "pack")
        for chunks in (2, 4)
    ),
]


@dataclass
class Tables:
    """The part of a plan that is counted."""

    segments: np.ndarray
    packs: np.ndarray
    reach: int


def every_token(plan: Any) -> tuple[list[int], list[int]]:
    """List the distances of every pair, and of every token's farthest, one by one."""
    pairs, farthest = [], []
    for row in plan.packs:
        own = plan.segments[row["first"] : row["first"] + row["segments"]]
        for group in set(own["group"].tolist()):
            told = own[own["group"] == group][["position", "length"]].tolist()
            seen: list[int] = []
            for position, length in told:
                for query in range(position, position + length):
                    seen.append(query)
                    pairs += [query - key for key in seen]
                    farthest.append(query - seen[0])
    return pairs, farthest


@given(
    lengths=st.lists(st.lists(st.integers(1, 30), min_size=1, max_size=6), min_size=7, max_size=7),
    used=st.sets(st.integers(0, 6), min_size=1, max_size=3),
    size=st.integers(3, 40),
    more=st.integers(0, 90),
)
def test_counts_are_those_made_one_by_one(lengths: list[list[int]], used: set[int], size: int, more: int):
    items = [Items.whole(np.arange(len(own)), np.array(own)) for own in lengths]
    parts = [(items[at], SCOPES[at]) for at in sorted(used)]
    plan: Any = Tables(*tables(parts, size, reach=size + more, seed=1), size + more)
    pairs, farthest = (np.array(values) for values in every_token(plan))
    octaves = coverage(plan)
    assert [octave.start for octave in octaves[:4]] == [0, 1, 2, 4][: len(octaves)]
    for octave in octaves:
        assert octave.pairs == ((pairs >= octave.start) & (pairs < octave.stop)).sum()
        assert octave.tokens == ((farthest >= octave.start) & (farthest < octave.stop)).sum()
    assert attention_cost(plan) == len(pairs)
    for length in (0, 1, size, size + more, 5000):
        assert beyond(plan, length) == pytest.approx((pairs >= length).mean())


def test_pairs_past_what_a_machine_number_holds():
    """Eight groups of 2**30 tokens have 2**62 pairs, and more."""
    plan: Any = Tables(
        *tables([(Items.whole(np.arange(8), np.full(8, 1 << 30)), Scope())], 1 << 30, reach=1 << 30), 1 << 30
    )
    assert attention_cost(plan) == 8 * (1 << 29) * ((1 << 30) + 1)


def test_short_packs_that_skip_train_the_long_window():
    items = Items.whole(np.arange(200), np.full(200, 128))
    plan: Any = Tables(*tables([(items, Scope(positions="skip"))], 128, reach=512, seed=0), 512)
    assert beyond(plan, 128) > 0.2
    plain: Any = Tables(*tables([(items, Scope())], 128, reach=512, seed=0), 512)
    assert beyond(plain, 128) == 0


@pytest.fixture
def plan(spec: Callable[..., DataSpec], tokenizer: Path, tmp_path: Path) -> Plan:
    facts = {"kind": "facts", "text": "code", "weight": 0.25, "length": 200}
    made = prepare(
        spec(code={"weight": 0.75}, sources={"facts": facts}),
        tokenizer_path=tokenizer,
        length=300,
        folder=tmp_path,
    )
    return open_plan(made.folder)


def test_a_plan_covers_all_its_tokens(plan: Plan):
    assert sum(octave.tokens for octave in coverage(plan)) == plan.manifest["report"]["tokens"]


def test_buckets_hold_every_document_by_source_and_length(plan: Plan):
    rows = {row for index in range(len(plan)) for row, _, _ in plan[index].segments}
    octave = {row: 1 << (len(plan.document(row).tokens).bit_length() - 1) for row in rows}
    documents = Counter((plan.document(row).source, octave[row]) for row in rows)
    tokens: Counter[tuple[str, int]] = Counter()
    for index in range(len(plan)):
        for row, _, length in plan[index].segments:
            tokens[plan.document(row).source, octave[row]] += length
    told = {(bucket.source, bucket.start): (bucket.documents, bucket.tokens) for bucket in buckets(plan)}
    assert told == {key: (documents[key], tokens[key]) for key in documents}
    assert {source for source, _ in told} == {"code", "facts"}
