"""Memory by part, against numbers worked out by hand and published ones."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st
from world.budgets import SEVENTY_B, job

from ropewalk.train.budget import Job, gpu_memory, host_memory
from ropewalk.train.budget.activations import attention_kept, layer_kept, mlp_kept, norms_kept
from ropewalk.train.budget.memory import GIB, SLAB, head, pinned, store_bytes, waiting

K, M = 1024, 1024**2
N = 8_030_261_248
GEMMA = {
    "model_type": "gemma3_text",
    "num_hidden_layers": 12,
    "hidden_size": 512,
    "intermediate_size": 1024,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "head_dim": 64,
    "sliding_window": 512,
    "vocab_size": 1000,
}


def test_a_layer_of_8b_by_hand():
    """16 H of norms, 8 F of the MLP; q, k, v, the result, a log-sum-exp a head; two numbers."""
    shape = job(K).shape
    assert norms_kept(shape, 2) == 16 * 4096 + 8
    assert mlp_kept(shape, 2) == 8 * 14336
    assert attention_kept(shape, 2) == 2 * 128 * (32 + 2 * 8) + 2 * 4096 + 4 * 32
    assert layer_kept(shape, 2) == 200_840
    assert layer_kept(shape, 2, 8) == 209_032  # ranks trade the result: by heads and by tokens
    # 32 ranks that divide 8 kv heads hold each four times
    assert attention_kept(shape, 2, 32) - attention_kept(shape, 2, 8) == 2 * 2 * 24 * 128


def test_states_and_weights_by_hand():
    one = gpu_memory(job(K, world=64, heads=8))
    vectors = 65 * 4096
    assert one.weights == 2 * (-(-(N - vectors) // 64) + vectors)
    assert (one.gradients, one.states) == (4 * -(-N // 64), 12 * -(-N // 64))
    assert one.loading == 2 * N
    # the embedding's gradient is larger than a bucket: bfloat16 and its float32 copy, beside live weights
    assert one.gathers == 6 * 128256 * 4096 + 2 * 10**9


@pytest.mark.parametrize(
    ("stage", "weights", "gradients", "states"),
    [(0, 1, 1, 8), (1, 1, 1, 3), (2, 1, 0.25, 3), (3, 0.25, 0.25, 3)],
)
def test_what_each_stage_shards(stage: int, weights: float, gradients: float, states: float):
    memory = gpu_memory(job(4 * K, world=4, zero_stage=stage, dtype="float32"))
    assert memory.weights == pytest.approx(4 * N * weights, rel=1e-4)
    assert memory.gradients == pytest.approx(4 * N * gradients, rel=1e-4)
    assert memory.states == pytest.approx(N * states, rel=1e-4)


def test_published_bytes_of_8b():
    """Boundary inputs 0.25 MiB a token, keys and values 128 KiB, float32 logits of 32K tokens 15.7 GiB."""
    assert waiting(job(M)) == 256 * K
    device, _ = store_bytes(job(2 * M, chunk=M))
    assert device == M * (128 + 256) * K
    kept, _ = store_bytes(job(2 * M, chunk=M, keep_attention=True))
    assert kept - device == M * 32 * (2 * 4096 + 4 * 32)
    assert round(32 * K * 128256 * 4 / GIB, 1) == 15.7
    whole = head(job(32 * K, loss_chunk=32 * K)) - head(job(32 * K, loss_chunk=1))
    assert whole == (32 * K - 1) * 128256 * 8  # and their softmax


def test_qwen_keeps_half_of_it():
    config = {"model_type": "qwen2", "num_hidden_layers": 28, "hidden_size": 3584, "intermediate_size": 18944}
    config |= {"num_attention_heads": 28, "num_key_value_heads": 4, "vocab_size": 152064}
    device, _ = store_bytes(job(2 * M, chunk=M, config=config))
    assert device == M * (56 + 112) * K


@pytest.mark.parametrize(
    ("asked", "gib"),
    [
        (job(512 * K, world=64, heads=8), 40),
        (job(M, world=64, heads=8), 74),
        (job(M, world=8, heads=8), 88),
        (job(4 * M, world=64, heads=8, gather=4), 75),
    ],
)
def test_what_was_traced_at_true_shapes(asked: Job, gib: float):
    assert gpu_memory(asked).training / GIB == pytest.approx(gib, rel=0.03)


def test_the_store_is_divided_over_the_ranks():
    alone = sum(store_bytes(job(8 * M, chunk=M)))
    for heads, gather in ((8, 1), (1, 8), (4, 2), (8, 8)):
        own = sum(store_bytes(job(8 * M, chunk=M, world=64, heads=heads, gather=gather)))
        assert own * heads * gather == alone


def test_layers_are_stored_where_the_recipe_says():
    everything, _ = store_bytes(job(2 * M, chunk=M))
    device, host = store_bytes(job(2 * M, chunk=M, store={"device_layers": 8}))
    assert device * 4 == everything
    assert host == everything - device
    assert store_bytes(job(2 * M, chunk=M, store="host")) == (0, everything)


def test_sliding_layers_keep_their_window():
    full, sliding = 2, 10
    device, _ = store_bytes(job(8 * K, chunk=K, config=GEMMA))
    token = 2 * 4 * 64 * (2 + 4)
    assert device == 7 * (full * K + sliding * 511) * token
    divided, _ = store_bytes(job(8 * K, chunk=K, config=GEMMA, world=2, gather=2))
    assert divided * 2 == 7 * (full * K + sliding * 512) * token  # in whole rounds of 128


def test_pinned_memory_comes_in_powers_of_two():
    assert pinned(3, 1) == SLAB
    assert pinned(SLAB, 3) == 3 * SLAB
    assert pinned(SLAB + 1, 3) == 3 * 2 * SLAB
    assert pinned(SLAB // 4 * 3, 3) == 3 * SLAB  # one in each slab: a quarter is lost
    assert pinned(0, 3) == pinned(3, 0) == 0


def test_a_host_holds_its_ranks():
    one = host_memory(job(8 * M, chunk=M, world=8, heads=8, store="host"))
    assert one.store == store_bytes(job(8 * M, chunk=M))[0]
    assert one.loading == 8 * 6 * N
    offloaded = host_memory(job(K, arithmetic={"optimizer_on_host": True}))
    assert offloaded.states == 16 * N
    assert gpu_memory(job(K, arithmetic={"optimizer_on_host": True})).states == 0


@given(
    doublings=st.integers(0, 5),
    chunk=st.sampled_from([None, 16 * K, 64 * K]),
    heads=st.sampled_from([1, 4]),
    keep=st.booleans(),
)
def test_more_tokens_never_need_less(doublings: int, chunk: int | None, heads: int, keep: bool):
    def needs(length: int) -> tuple[int, int]:
        asked = job(length, world=heads, heads=heads, chunk=chunk, keep_attention=keep)
        return gpu_memory(asked).total, host_memory(asked).total

    length = 128 * K << doublings
    assert all(one <= other for one, other in zip(needs(length), needs(2 * length), strict=True))


def test_streamed_memory_grows_by_the_store_alone():
    short, long = (gpu_memory(job(length, chunk=64 * K, world=8, heads=8)) for length in (M, 4 * M))
    changed = {name for name in short.parts if short.parts[name] != long.parts[name]}
    assert changed == {"store"}


def test_twice_the_ranks_hold_half_of_what_is_sharded():
    one, two = (gpu_memory(job(M, world=world, heads=8, config=SEVENTY_B)) for world in (64, 128))
    for part in ("states", "gradients"):
        assert one.parts[part] == pytest.approx(2 * two.parts[part], rel=1e-6)
    assert one.activations == two.activations
    longer = gpu_memory(job(2 * M, world=64, heads=8, config=SEVENTY_B))
    assert longer.activations == 2 * one.activations


def test_the_parts_are_the_whole():
    memory = gpu_memory(job(M, world=8, heads=8, chunk=64 * K))
    assert memory.training == sum(memory.parts.values())
    assert set(memory.parts) == {field.name for field in dataclasses.fields(memory)} - {"loading"}
    assert memory.total == memory.training
    large = gpu_memory(job(M, world=64, heads=8, gather=8, chunk=64 * K, config=SEVENTY_B))
    assert large.total == large.loading == 2 * 70_553_706_496
