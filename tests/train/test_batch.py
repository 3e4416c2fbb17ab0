"""Which rank takes which pack changes with the layout; which packs a step has and what they hold does not."""

from itertools import chain

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from world.packs import MemoryPlan, read_step
from world.small import write_text

from ropewalk.data import DataSpec, Plan, open_plan, prepare, train_tokenizer
from ropewalk.data.packing.tables import Items, Scope, tables
from ropewalk.train import Layout
from ropewalk.train.batch import Batches, deal, group_lengths

COSTS = st.integers(1, 6).flatmap(
    lambda ranks: st.tuples(
        st.just(ranks), st.lists(st.integers(1, 10**13), min_size=ranks * 4, max_size=ranks * 4)
    )
)


def waited(costs: np.ndarray) -> int:
    """Sum the dearest of each micro-step, for costs [steps, ranks]: the time of ranks that wait."""
    return int(costs.max(axis=1).sum())


@given(drawn=COSTS)
def test_packs_are_dealt_evenly(drawn: tuple[int, list[int]]):
    ranks, costs = drawn
    dealt = deal(costs, ranks)
    assert sorted(dealt.flatten().tolist()) == list(range(len(costs)))
    cost = np.array(costs)[dealt]
    sums = cost.sum(axis=0)
    assert sums.max() - sums.min() <= max(costs) - min(costs)
    assert waited(cost) <= waited(np.array(costs).reshape(ranks, -1).T)
    assert sums.max() <= waited(np.array(costs).reshape(ranks, -1).T)


def test_packs_of_a_heavy_tail_wait_less():
    """Documents of a heavy tail in packs of 64K, 64 packs a step on 8 ranks: attention's part of the time."""
    lengths = np.random.default_rng(0).lognormal(8, 1.8, 20_000).astype(np.int64).clip(1)
    items = Items.whole(np.arange(len(lengths)), lengths)
    _, packs = tables([(items, Scope())], 65536, reach=65536)
    steps = packs["cost"][: len(packs) // 64 * 64].reshape(-1, 64)
    assert len(steps) > 10
    before = [step.reshape(8, 8).T for step in steps]
    after = [step[deal(step.tolist(), 8)] for step in steps]
    assert sum(map(waited, before)) / sum(map(waited, after)) > 1.3
    uneven, even = (np.mean([uneven_by(cost) for cost in costs]) for costs in (before, after))
    assert even < 1.02 < 1.2 < uneven


def uneven_by(cost: np.ndarray) -> float:
    """Give the dearest rank's total over the mean."""
    return float(cost.sum(axis=0).max() / cost.sum(axis=0).mean())


@given(
    data=st.sampled_from([1, 2, 4]),
    sequence=st.sampled_from([1, 2, 4]),
    micro_batch=st.sampled_from([1, 2]),
    step=st.integers(0, 4),
)
def test_a_step_has_the_same_packs_on_every_layout(data: int, sequence: int, micro_batch: int, step: int):
    plan = MemoryPlan()
    layout = Layout(world=data * sequence, heads=sequence)
    batches = Batches(plan=plan, layout=layout, packs_per_step=8, micro_batch=micro_batch)  # type: ignore[arg-type]
    shares = [batches.of_data_rank(step, rank) for rank in range(data)]
    assert sorted(chain(*shares)) == list(batches.packs(step))
    tokens = []
    for rank in range(data):
        ranks = [list(read_step(batches, step, r)) for r in layout.sequence_ranks(rank)]
        assert {len(micro) for micro in ranks} == {batches.accumulation}
        for parts in zip(*ranks, strict=True):
            tokens += torch.cat([part.tokens for part in parts], dim=1).tolist()
    wanted = [plan.pack(pack).tokens.tolist() for pack in batches.packs(step)]
    assert sorted(tokens) == sorted(wanted)


def test_one_data_rank_takes_all_whatever_its_sequence_degree():
    plan = MemoryPlan()
    orders = [
        Batches(
            plan=plan,  # type: ignore[arg-type]
            layout=Layout(world=world, heads=world),
            packs_per_step=8,
            micro_batch=1,
        ).of_data_rank(0, 0)
        for world in (1, 4)
    ]
    assert orders[0] == orders[1]


def test_a_token_knows_the_extent_of_its_group():
    lengths = group_lengths([[(0, 2), (2, 6)], [(0, 6)]], [[2, 90], [6]], [(1, 3), (4, 6)])
    assert lengths.tolist() == [[2, 90, 90, 90], [6, 6, 6, 6]]


@pytest.fixture(scope="module")
def skipping(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    folder = tmp_path_factory.mktemp("skipping")
    train_tokenizer(write_text(folder / "text"), 400, folder)
    source = {"kind": "files", "paths": [str(folder / "text")], "weight": 1.0, "positions": "skip"}
    spec = DataSpec.model_validate({"tokens": 4000, "sources": {"text": source}})
    made = prepare(spec, tokenizer_path=folder, length=128, reach=512, folder=folder / "store")
    return open_plan(made.folder)


def test_lengths_of_skipping_groups_are_those_of_the_long_window(skipping: Plan):
    layout = Layout(world=2, heads=2)
    batches = Batches(plan=skipping, layout=layout, packs_per_step=4, micro_batch=2)
    parts = [list(read_step(batches, 0, rank)) for rank in range(2)]
    positions, lengths = (
        torch.cat(
            [torch.cat([getattr(part, name) for part in pair], dim=1) for pair in zip(*parts, strict=True)]
        )
        for name in ("positions", "lengths")
    )
    assert positions.max() > 128
    for row, pack in enumerate(batches.of_data_rank(0, 0)):
        for start, stop in skipping.groups(pack):
            assert (lengths[row, start:stop] == positions[row, stop - 1] + 1).all()
