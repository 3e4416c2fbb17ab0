"""What the store holds and moves, by arithmetic, against a real streamed step and the blocks of ranks."""

from typing import Any

import pytest
import torch
from transformers import CONFIG_MAPPING, AutoModelForCausalLM
from world.budgets import job

from ropewalk.rope import install, make_scheme
from ropewalk.train import Layout
from ropewalk.train.attention.pairs import sdpa
from ropewalk.train.attention.reach import own_rounds, reach, stored_rounds
from ropewalk.train.attention.store import Store
from ropewalk.train.attention.tiles import Groups
from ropewalk.train.budget import Job, cost_of
from ropewalk.train.budget.cost import moved
from ropewalk.train.budget.memory import store_bytes
from ropewalk.train.loss import hidden_states
from ropewalk.train.mesh import Mesh
from ropewalk.train.streaming import Streaming, chunks, on_host, visits

LENGTH, CHUNK, LAYERS = 96, 24, 3
SMALL: dict[str, Any] = {
    "model_type": "llama",
    "num_hidden_layers": LAYERS,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 50,
}
ONE: Groups = [[(0, LENGTH)]]


def streamed(asked: Job, groups: Groups) -> tuple[Store, int, int]:
    """Run a bfloat16 step's chunks forward and backward; return its store, and the most bytes that layers on
    the device and on the host had in it at once."""
    torch.manual_seed(0)
    kind: Any = CONFIG_MAPPING["llama"]
    made = AutoModelForCausalLM.from_config(kind(**SMALL), dtype=torch.bfloat16)
    model = install(made, make_scheme("default"))
    if asked.train.gradient_checkpointing:
        model.activation_checkpointing_enable({"use_reentrant": False})
    model.train()
    mesh, train = Mesh.alone(), asked.train
    store = Store(on_host(train), mesh.device)
    streaming = Streaming(mesh, sdpa, train.chunk, store, train.keep_attention)
    most = [(0, 0)]
    for visit in streaming.visits(LENGTH, groups):
        places = torch.arange(*visit.chunk)[None]
        with torch.set_grad_enabled(not visit.first_pass):
            attend = streaming.attention(groups, visit)
            hidden = hidden_states(model, places % 50, places, torch.full((1, 1), LENGTH), attend)
        if not visit.first_pass:
            hidden.float().sum().backward()
        most.append(held(store))
        streaming.leave(visit)
    assert store.bytes == 0
    return store, max(one for one, _ in most), max(other for _, other in most)


def held(store: Store) -> tuple[int, int]:
    """Return the bytes of layers on the device and on the host."""
    each = [(at[0], tensor.nbytes) for kept in (store.keys, store.gradients) for at, tensor in kept.items()]
    each += [(at[0], one.nbytes) for at, whole in store.kept.items() for one in whole]
    assert sum(size for _, size in each) == store.bytes
    return (
        sum(size for layer, size in each if not store.on_host(layer)),
        sum(size for layer, size in each if store.on_host(layer)),
    )


@pytest.fixture
def plain_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """Count host memory as it is asked for: what pinning rounds up to is a GPU's."""
    monkeypatch.setattr("ropewalk.train.budget.memory.pinned", lambda size, count: size * count)


@pytest.mark.usefixtures("plain_host")
@pytest.mark.parametrize("checkpointing", [False, True], ids=["kept", "computed again"])
@pytest.mark.parametrize("keep", [False, True], ids=["", "attention"])
@pytest.mark.parametrize("where", ["device", "host", {"device_layers": 1}], ids=str)
def test_the_store_of_a_step_is_counted_to_the_byte(where: Any, keep: bool, checkpointing: bool):
    settings = {"chunk": CHUNK, "keep_attention": keep, "gradient_checkpointing": checkpointing}
    asked = job(LENGTH, config=SMALL, store=where, **settings)
    store, device, host = streamed(asked, ONE)
    assert (device, host) == store_bytes(asked)
    if where == "host":
        assert store.moved.written + store.moved.read == cost_of(asked).host == LAYERS * moved(asked, None)


@pytest.mark.usefixtures("plain_host")
def test_documents_inside_their_chunks_are_not_stored():
    asked = job(LENGTH, config=SMALL, store="host", chunk=CHUNK)
    _, _, whole = streamed(asked, ONE)
    _, _, crossing = streamed(asked, [[(0, 18), (18, 48), (48, 96)]])
    _, _, inside = streamed(asked, [[(0, 10), (10, 24), (24, 48), (48, 72), (72, 96)]])
    a_token = LAYERS * 2 * 2 * 8 * (2 + 4)
    assert whole == store_bytes(asked)[1] == 3 * CHUNK * a_token
    assert (crossing, inside) == (24 * a_token, 0)  # of the islands 0..48 and 48..96 the one with more


LAYOUTS = [
    Layout(world=1),
    Layout(world=2, gather=2),
    Layout(world=4, heads=2, gather=2),
    Layout(world=4, gather=4),
]


@pytest.mark.parametrize("window", [None, 100, 300, 700])
@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda one: f"{one.heads} x {one.gather}")
def test_every_rank_stores_and_moves_what_the_blocks_say(layout: Layout, window: int | None):
    """What a rank reads in a pass are the stored blocks that its gather group meets."""
    length, size, groups = 2048, 256, [[(0, 2048)]]
    ranks: dict[str, Any] = {"world": layout.world, "heads": layout.heads, "gather": layout.gather}
    asked = job(length, config=SMALL, chunk=size, store="host", **ranks)
    cut = chunks(length, size)
    kept = [span for one in cut[:-1] for _, span in stored_rounds(layout, groups, one, window)]
    stored = tokens(kept) // layout.gather
    for rank in range(layout.gather):
        read = dict.fromkeys((True, False), 0)
        for visit in visits(cut, groups):
            blocks = reach(layout, rank, groups, visit.chunk, visit.earlier, window).blocks
            read[visit.first_pass] += tokens([block.span for block in blocks if block.places is None])
        first, second = (read[which] // layout.gather for which in (True, False))
        token = 2 * asked.kv_width
        by_blocks = token * (2 * (stored + first + 2 * second) + 4 * 2 * second)
        assert moved(asked, window) == by_blocks
    assert sum(len(own_rounds(layout, one)) for one in cut) == len(cut) * asked.rounds


@pytest.mark.parametrize("layout", LAYOUTS[1:], ids=lambda one: f"{one.heads} x {one.gather}")
@pytest.mark.parametrize("chunk", [None, 256], ids=["whole", "chunks"])
def test_a_rank_gathers_the_blocks_that_it_meets(layout: Layout, chunk: int | None):
    length, groups = 2048, [[(0, 2048)]]
    ranks: dict[str, Any] = {"world": layout.world, "heads": layout.heads, "gather": layout.gather}
    asked = job(length, config=SMALL, chunk=chunk, gradient_checkpointing=False, **ranks)
    met = dict.fromkeys((True, False), 0)
    for visit in visits(chunks(length, chunk), groups):
        blocks = reach(layout, 0, groups, visit.chunk, visit.earlier, None).blocks
        met[visit.first_pass] += tokens([block.span for block in blocks])
    forwards, backwards = met[True] + met[False], met[False]
    others = (layout.gather - 1) / layout.gather
    a_token = LAYERS * 2 * asked.kv_width * others
    by_blocks = a_token * (2 * (forwards + backwards) + 4 * backwards)
    assert cost_of(asked).gathered == by_blocks


def tokens(spans: list[tuple[int, int]]) -> int:
    return sum(stop - start for start, stop in spans)
