"""FLOPs and traffic of a step, against formulas by hand; what fits, and in which chunks."""

from typing import Any

import pytest
from world.budgets import EIGHT_B, SEVENTY_B, job

from ropewalk.train.budget import Machine, cost_of, fit_problems, gpu_memory, propose
from ropewalk.train.budget.cost import pairs_seen
from ropewalk.train.budget.fit import FLOPS, LINK, a_chunk, larger_chunk

K, M = 1024, 1024**2
N = 8_030_261_248
WIDTH = 4096 * 32
"query width of all layers"


@pytest.mark.parametrize("length", [8 * K, M])
def test_flops_are_six_n_and_six_l_h_s_a_token(length: int):
    assert cost_of(job(length)).flops == length * (6 * N + 6 * WIDTH * length)


def test_documents_are_counted_by_their_squares():
    asked = job(64 * K)
    short = cost_of(asked, squares=8 * (8 * K) ** 2)
    assert short.flops == 64 * K * (6 * N + 6 * WIDTH * 8 * K)


def test_a_sliding_layer_sees_its_window():
    exact = sum(min(query + 1, 512) for query in range(8 * K))
    assert pairs_seen(8 * K, 512) == pytest.approx(exact, rel=1e-3)
    assert pairs_seen(256, 512) == pairs_seen(256, None) == 256**2 / 2


@pytest.mark.parametrize(
    ("train", "units"),
    [
        ({"gradient_checkpointing": False}, 3.5),
        ({}, 4.5),
        ({"keep_attention": True}, 3.5),
        ({"chunk": K}, 4.5),
        ({"chunk": K, "keep_attention": True}, 3.5),
    ],
)
def test_units_of_attention(train: dict[str, Any], units: float):
    """One forward is one unit; the kernel's backward is 2.5, of which a half is scores computed anew."""
    length = 1024 * K
    asked, forward = job(length, **train), 2 * WIDTH * length**2
    cost, passes = cost_of(asked), (asked.earlier / length) + asked.train.gradient_checkpointing
    again = cost.recomputed - 2 * asked.shape.decoder * length * passes
    assert (again + 3 * forward) / forward == pytest.approx(units, rel=1e-3)


def test_a_chunk_of_8b_costs_about_80_gb():
    chunk = cost_of(job(M, world=64, heads=8, chunk=64 * K)).parameters_of_chunk
    assert chunk == pytest.approx((3 * 2 + 4) * N * 63 / 64)
    assert 78e9 < chunk < 82e9


@pytest.mark.parametrize(("stage", "chunks_matter"), [(0, False), (1, False), (2, True), (3, True)])
def test_chunks_cost_traffic_only_at_stages_2_and_3(stage: int, chunks_matter: bool):
    few, many = (
        cost_of(job(M, world=8, heads=8, chunk=chunk, zero_stage=stage, dtype="float32"))
        for chunk in (256 * K, 64 * K)
    )
    assert (few.parameters < many.parameters) == chunks_matter
    assert few.all_to_all < many.all_to_all  # more of the pack goes through a first pass
    assert (few.parameters_of_chunk > 0) == chunks_matter


def test_all_to_all_by_hand():
    """Two forwards and a backward, q, k, v and the result, 7 of 8 parts from others."""
    cost = cost_of(job(M, world=8, heads=8))
    assert cost.all_to_all == M / 8 * 32 * 2 * (2 * 4096 + 2 * 1024) * 7 / 8 * 3
    assert cost_of(job(M, world=8)).all_to_all == cost_of(job(M, world=8)).gathered == 0


def test_gathered_by_hand():
    """Three meetings of a whole pack's keys and values, and their float32 gradients, half of them others'."""
    cost = cost_of(job(M, world=2, gather=2))
    assert cost.gathered == 32 * M * 2 * 1024 * (3 * 2 + 4) / 2


def test_a_store_on_the_host_is_read_by_every_later_chunk():
    cost = cost_of(job(4 * K, chunk=K, store="host"))
    tokens = K * 32 * 2 * 1024
    keys = 2 * tokens * (3 + (1 + 2) + 2 * (1 + 2 + 3))  # written; first pass, second, backward
    assert cost.host == keys + 4 * tokens * 2 * (1 + 2 + 3)
    assert cost_of(job(4 * K, chunk=K)).host == 0
    half = cost_of(job(4 * K, chunk=K, store={"device_layers": 16}))
    assert half.host * 2 == cost.host


def test_a_chunk_is_proposed_that_fits():
    large = job(2 * M, world=8, heads=8)
    machine = Machine.of_gib(74, None)
    changes = propose(large, machine)
    assert changes == {"chunk": 256 * K, "store": "host"}
    streamed = job(2 * M, world=8, heads=8, **changes)
    assert gpu_memory(streamed).training <= 0.9 * 74 * 2**30
    assert propose(streamed, machine) == propose(job(8 * K, world=8, heads=8), machine) == {}


BAD_FITS = [
    (job(2 * M, world=8, heads=8), Machine.of_gib(74, None), "74 GiB", "train.chunk="),
    (job(64 * M, world=8, heads=8, chunk=64 * K), Machine.of_gib(74, None), "store", "store=host"),
    (
        job(64 * M, world=8, heads=8, chunk=64 * K, store="host"),
        Machine.of_gib(74, 1800),
        "host",
        "more hosts",
    ),
    (job(M, world=8, config=SEVENTY_B), Machine.of_gib(74, None), "GPU", "raise the ranks"),
    (
        job(M, world=64, heads=8, gather=8, chunk=64 * K, config=SEVENTY_B),
        Machine.of_gib(74, None),
        "loaded",
        "smaller model",
    ),
]


@pytest.mark.parametrize(("asked", "machine", "value", "cure"), BAD_FITS, ids=lambda part: str(part)[:20])
def test_what_cannot_fit(asked, machine, value, cure):
    problems = list(fit_problems(asked, machine))
    assert problems
    assert any(value in line and cure in line for line in problems)
    assert list(fit_problems(asked, Machine())) == []


def test_what_fits_is_not_refused():
    assert list(fit_problems(job(M, world=64, heads=8, config=EIGHT_B), Machine.of_gib(80, 1800))) == []


def test_a_larger_chunk_is_proposed_where_weights_take_longer_than_compute():
    ranks = {"world": 64, "heads": 8, "store": "host"}
    small, machine = job(256 * K, chunk=8 * K, **ranks), Machine.of_gib(74, None)
    traffic, compute = a_chunk(small)
    assert traffic == pytest.approx((3 * 2 + 4) * N * 63 / 64)
    whole = cost_of(small)
    assert compute * 8 * 32 * 8 == pytest.approx(whole.flops + whole.recomputed)
    assert traffic / LINK > compute / FLOPS
    larger = larger_chunk(small, machine)
    assert larger is not None
    traffic, compute = a_chunk(job(256 * K, chunk=larger, **ranks))
    assert traffic / LINK <= compute / FLOPS
    traffic, compute = a_chunk(job(256 * K, chunk=larger // 2, **ranks))
    assert traffic / LINK > compute / FLOPS
    assert larger_chunk(job(256 * K, chunk=larger, **ranks), machine) is None
    assert larger_chunk(job(256 * K, world=64, heads=8), machine) is None
    tight = Machine.of_gib(
        gpu_memory(job(256 * K, chunk=16 * K, **ranks)).training / 0.9 / 2**30 * 1.001, None
    )
    assert larger_chunk(small, tight) == 16 * K
