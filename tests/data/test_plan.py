"""A plan's packs are their documents, groups and shifted labels, whole or in spans; its counts are theirs."""

import shutil
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ropewalk.data import DataError, DataSpec, Plan, open_documents, open_plan, prepare
from ropewalk.data.corpus.store import Part

LENGTH, REACH = 160, 700
PARTS = {
    "facts": {"kind": "facts", "text": "code", "weight": 0.2, "facts": 2, "min_length": 60},
    "repeats": {"kind": "repeats", "text": "code", "weight": 0.1},
    "joined": {"kind": "facts", "text": "code", "weight": 0.1, "facts": 1, "length": 70, "groups": "pack"},
    "skipped": {
        "kind": "facts",
        "text": "code",
        "weight": 0.1,
        "facts": 1,
        "length": 90,
        "positions": "skip",
    },
}


@pytest.fixture(scope="module")
def plan(tokenizer: Path, text: Path, tmp_path_factory: pytest.TempPathFactory) -> Plan:
    code = {"kind": "files", "paths": [str(text)], "weight": 0.5}
    spec = DataSpec.model_validate({"tokens": 20_000, "holdout": 0.2, "sources": {"code": code, **PARTS}})
    folder = tmp_path_factory.mktemp("store")
    made = prepare(spec, tokenizer_path=tokenizer, length=LENGTH, reach=REACH, folder=folder)
    return open_plan(made.folder)


def test_a_pack_is_its_segments(plan: Plan):
    padding = plan.manifest["padding"]
    for index in range(len(plan)):
        pack = plan[index]
        parts = [plan.document(s.row).tokens[s.start : s.start + s.length] for s in pack.segments]
        whole = np.concatenate([*parts, np.full(LENGTH, padding)])[:LENGTH]
        assert pack.tokens.tolist() == whole.tolist()
        assert pack.tokens.dtype == pack.positions.dtype == pack.labels.dtype == np.int64


def sources(plan: Plan, index: int) -> set[str]:
    return {plan.document(segment.row).source for segment in plan[index].segments}


def test_groups_cover_a_pack_and_positions_restart_in_each(plan: Plan):
    skipping = 0
    for index in range(len(plan)):
        pack = plan[index]
        edges = [0, *(stop for _, stop in pack.groups)]
        assert [start for start, _ in pack.groups] == edges[:-1]
        assert edges[-1] == LENGTH
        assert pack.groups == plan.groups(index)
        assert plan.cost(index) == sum((stop - start) ** 2 for start, stop in pack.groups)
        filled = sum(segment.length for segment in pack.segments)
        spread = [pack.positions[start:stop] for start, stop in pack.groups]
        assert plan.extents(index) == [own[-1] - own[0] + 1 for own in spread]
        skips = sources(plan, index) == {"skipped"}
        skipping += skips
        for start, stop in pack.groups:
            own = pack.positions[start:stop]
            if skips and start < filled:
                assert own[0] == 0
                assert (np.diff(own) != 1).sum() <= 1
                assert own[-1] < REACH
            else:
                assert own.tolist() == list(range(stop - start))
    assert skipping > 5


def test_labels_are_the_next_token_inside_a_group(plan: Plan):
    for index in range(len(plan)):
        pack = plan[index]
        filled = sum(segment.length for segment in pack.segments)
        expected = np.full(LENGTH, -100)
        for start, stop in pack.groups:
            if start < filled:
                expected[start : stop - 1] = pack.tokens[start + 1 : stop]
        assert pack.labels.tolist() == expected.tolist()
        assert (pack.loss_mask == (expected != -100)).all()
        assert plan.trained_tokens(index) == (expected != -100).sum()


def test_the_last_token_of_a_document_is_masked_where_groups_mask(plan: Plan):
    masked, joined = 0, 0
    for index in range(len(plan)):
        pack, offset = plan[index], 0
        if sources(plan, index) == {"skipped"}:
            continue  # a segment there may be a chunk
        for segment in pack.segments[:-1]:
            offset += segment.length
            source = plan.document(segment.row).source
            assert (pack.labels[offset - 1] == -100) == (source != "joined")
            masked, joined = masked + (source != "joined"), joined + (source == "joined")
    assert masked > 10
    assert joined > 10


@settings(max_examples=200)
@given(data=st.data())
def test_a_span_is_a_slice_of_the_pack(plan: Plan, data: st.DataObject):
    index = data.draw(st.integers(0, len(plan) - 1))
    start, stop = sorted(data.draw(st.tuples(st.integers(0, LENGTH), st.integers(0, LENGTH))))
    window, pack = plan.read(index, start, stop), plan[index]
    for field in ("tokens", "positions", "labels"):
        assert getattr(window, field).tolist() == getattr(pack, field)[start:stop].tolist()


def test_no_held_out_document_is_trained_on(plan: Plan):
    heldout = {document.id for document in open_documents(plan.folder)}
    trained = {plan.document(s.row).id for index in range(len(plan)) for s in plan[index].segments}
    assert heldout
    assert not heldout & trained


def test_repeated_rows_repeat_at_many_distances(plan: Plan):
    rows = [plan.document(row) for row in {s.row for i in range(len(plan)) for s in plan[i].segments}]
    periods = [period_of(row.tokens) for row in rows if row.source == "repeats"]
    assert len(set(periods)) > 1
    assert all(LENGTH // 8 <= period <= LENGTH // 2 for period in periods)


def period_of(tokens: np.ndarray) -> int:
    return next(p for p in range(1, len(tokens)) if (tokens[p:] == tokens[:-p]).all())


@pytest.mark.parametrize("span", [(-1, 3), (5, 4), (0, LENGTH + 1)])
def test_a_span_outside_the_pack_is_refused(plan: Plan, span: tuple[int, int]):
    with pytest.raises(IndexError):
        plan.read(0, *span)


def test_packs_end(plan: Plan):
    assert len([*map(plan.__getitem__, range(len(plan)))]) == len(plan)
    for index in (-1, len(plan)):
        with pytest.raises(IndexError):
            plan[index]


def test_opening_reads_no_tokens(plan: Plan, monkeypatch: pytest.MonkeyPatch):
    def refuse(*_: object) -> None:
        raise AssertionError("tokens were read")

    monkeypatch.setattr(Part, "tokens", refuse)
    assert len(open_plan(plan.folder)) == len(plan)


def test_a_span_that_is_not_trained_is_seen_and_not_asked(
    spec: Callable[..., DataSpec], tokenizer: Path, tmp_path: Path
):
    """Mark the first half of every document: its tokens stand there, the labels that are they do not."""
    folder = Path(prepare(spec(), tokenizer_path=tokenizer, length=128, folder=tmp_path).folder)
    whole = open_plan(folder)
    table = np.load(folder / "segments.npy")
    table["trained"][::2] = False
    np.save(folder / "segments.npy", table)
    plan, asked = open_plan(folder), 0
    for index in range(len(plan)):
        before, after, offset = whole[index], plan[index], 0
        first = plan.packs[index]["first"]
        assert after.tokens.tolist() == before.tokens.tolist()
        expected = before.labels.copy()
        for number, segment in enumerate(after.segments):
            if not table["trained"][first + number]:
                expected[max(offset - 1, 0) : offset + segment.length - 1] = -100
            offset += segment.length
        assert after.labels.tolist() == expected.tolist()
        asked += (expected != -100).sum()
    assert 0 < asked < whole.packs["trained"].sum()


def test_a_plan_on_another_corpus_names_what_differs(
    spec: Callable[..., DataSpec], tokenizer: Path, tmp_path: Path
):
    one, other = tmp_path / "one", tmp_path / "other"
    made = [
        prepare(spec(holdout=share), tokenizer_path=tokenizer, length=64, folder=folder)
        for share, folder in ((0.2, one), (0.3, other))
    ]
    shutil.rmtree(one / "corpus")
    shutil.copytree(other / "corpus", one / "corpus")
    with pytest.raises(DataError, match=r"identity\.holdout \(0\.2 there, 0\.3 asked\)") as caught:
        open_plan(made[0].folder)
    assert "prepare it again" in str(caught.value)


def test_a_span_reads_its_own_tokens_and_the_next_label(plan: Plan, monkeypatch: pytest.MonkeyPatch):
    index = next(i for i in range(len(plan)) if len(plan[i].segments) > 2)
    filled, read, inner = int(plan.packs[index]["filled"]), [], plan._tokens

    def counted(*arguments: Any) -> np.ndarray:
        tokens = inner(*arguments)
        read.append(len(tokens))
        return tokens

    monkeypatch.setattr(plan, "_tokens", counted)
    for start, stop in ((0, 10), (LENGTH // 2, LENGTH // 2 + 40), (LENGTH - 1, LENGTH), (30, 30)):
        read.clear()
        plan.read(index, start, stop)
        assert sum(read) == max(min(stop + 1, filled) - start, 0)


def test_a_plan_of_millions_of_packs_opens_at_once(plan: Plan, tmp_path: Path):
    """Sparse tables, whose rows are zero but for one pack: what is not asked for is not read."""
    store = tmp_path / "store"
    shutil.copytree(plan.folder.parent.parent, store)
    folder = store / "plans" / plan.folder.name
    packs, at = 20_000_000, 12_345_678
    for name in ("segments", "packs"):
        table = np.load(folder / f"{name}.npy")
        path = folder / f"{name}.npy"
        path.unlink()
        large = np.lib.format.open_memmap(path, "w+", table.dtype, (packs,))
        own = int(plan.packs["segments"][0])
        large[at : at + (own if name == "segments" else 1)] = table[: own if name == "segments" else 1]
        if name == "packs":
            large["first"][at] = at
    tracemalloc.start()
    opened = open_plan(folder)
    window = opened.read(at, 10, 20)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < packs  # not even a byte a pack
    assert len(opened) == packs
    assert window.tokens.tolist() == plan.read(0, 10, 20).tokens.tolist()


def test_plans_of_other_lengths_share_the_corpus(
    spec: Callable[..., DataSpec], tokenizer: Path, tmp_path: Path
):
    reports = [prepare(spec(), tokenizer_path=tokenizer, length=n, folder=tmp_path) for n in (64, 128)]
    plans = [open_plan(report.folder) for report in reports]
    assert plans[0].corpus_fingerprint == plans[1].corpus_fingerprint
    assert plans[0].fingerprint != plans[1].fingerprint
    assert {path.name for path in tmp_path.iterdir()} == {"corpus", "plans"}
