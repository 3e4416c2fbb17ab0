"""The store gives back what it was given, adds in at least float32, counts its bytes and reuses its slabs."""

from itertools import pairwise

import pytest
import torch
from torch import Tensor

from ropewalk.train.attention.store import Store

CPU = torch.device("cpu")
BLOCK = 2 * 1 * 2 * 5 * 4  # elements
SPANS = [(0, 5), (5, 10), (10, 15)]


def drawn(seed: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(2, 1, 2, 5, 4, generator=torch.Generator().manual_seed(seed)).to(dtype)


def store_on(where: str) -> Store:
    return Store(
        {"device": lambda _: False, "host": lambda _: True, "second": lambda layer: layer > 0}[where], CPU
    )


@pytest.mark.parametrize("where", ["device", "host", "second"])
def test_blocks_come_back_in_order_and_their_bytes_are_counted(where: str) -> None:
    store = store_on(where)
    for layer in range(2):
        for seed, span in enumerate(SPANS):
            store.write(layer, span, drawn(10 * layer + seed))
    assert store.bytes == store.moved.written == 2 * 3 * 4 * BLOCK
    for layer in range(2):
        found = list(store.read(layer, SPANS[::-1]))
        for seed, block in zip((2, 1, 0), found, strict=True):
            assert torch.equal(block, drawn(10 * layer + seed))
    assert store.moved.read == 2 * 3 * 4 * BLOCK
    assert sum(len(slab) for slab in store.host.slabs) > 0 or where == "device"
    assert store.bytes == 2 * 3 * 4 * BLOCK  # reading forgets nothing


@pytest.mark.parametrize("where", ["device", "host"])
def test_what_is_written_is_not_what_the_writer_goes_on_to_change(where: str) -> None:
    store, mine = store_on(where), drawn(0)
    store.write(0, SPANS[0], mine)
    mine.zero_()
    assert torch.equal(next(store.read(0, SPANS[:1])), drawn(0))


@pytest.mark.parametrize("where", ["device", "host"])
def test_gradients_are_added_up_and_taken_once(where: str) -> None:
    store, first = store_on(where), drawn(0)
    store.add(0, SPANS[0], first)
    store.add(0, SPANS[0], drawn(1))
    assert torch.equal(first, drawn(0))  # the caller's own stays
    assert store.bytes == 4 * BLOCK
    assert store.moved.written == (2 if where == "host" else 1) * 4 * BLOCK
    taken = store.take(0, SPANS[0])
    assert taken is not None
    torch.testing.assert_close(taken, drawn(0) + drawn(1), rtol=0, atol=0)
    assert store.take(0, SPANS[0]) is None
    assert store.take(1, SPANS[0]) is None
    assert store.bytes == 0


@pytest.mark.parametrize("where", ["device", "host"])
def test_results_are_kept_with_their_dtypes_and_recalled_once(where: str) -> None:
    store = store_on(where)
    out, lse = drawn(0, torch.bfloat16), drawn(1)[0, :, :, :, 0]
    store.keep(1, SPANS[1], out, lse)
    assert store.bytes == out.nbytes + lse.nbytes
    known = store.recall(1, SPANS[1])
    assert known is not None
    assert [x.dtype for x in known] == [torch.bfloat16, torch.float32]
    assert torch.equal(known[0], out)
    assert torch.equal(known[1], lse)
    assert store.recall(1, SPANS[1]) is None
    assert store.recall(1, SPANS[0]) is None


def test_the_next_pack_takes_the_same_host_memory() -> None:
    store = store_on("host")
    for _ in range(3):
        for seed, span in enumerate(SPANS):
            store.write(0, span, drawn(seed))
        slabs = [slab.data_ptr() for slab in store.host.slabs]
        pieces = sorted(tensor.data_ptr() for tensor in store.keys.values())
        assert all(b - a >= 4 * BLOCK for a, b in pairwise(pieces))  # none on another
        assert [torch.equal(x, drawn(seed)) for seed, x in enumerate(store.read(0, SPANS))] == [True] * 3
        store.clear()
        assert store.bytes == 0
    assert [slab.data_ptr() for slab in store.host.slabs] == slabs
    assert all(len(slab) & (len(slab) - 1) == 0 for slab in store.host.slabs)  # powers of two, as pinned


@pytest.mark.gpu
def test_the_side_stream_waits_for_the_work_and_is_waited_for() -> None:
    store = Store(lambda layer: True, torch.device("cuda"))
    for seed, span in enumerate(SPANS):
        store.write(0, span, drawn(seed).cuda() * 2)
        store.add(0, span, drawn(seed).cuda())
        store.add(0, span, drawn(seed).cuda())
    assert all(tensor.is_pinned() for tensor in store.keys.values())
    for seed, block in enumerate(store.read(0, SPANS)):
        assert torch.equal(block.cpu(), drawn(seed) * 2)
        taken = store.take(0, SPANS[seed])
        assert taken is not None
        assert torch.equal(taken.cpu(), drawn(seed) * 2)
