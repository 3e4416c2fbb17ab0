"""Each pair's forward and backward are those of attention written out, also of a part of a longer softmax."""

import contextlib
import importlib.util
import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from ropewalk.train.attention import pairs
from ropewalk.train.attention.kernels import KERNELS
from ropewalk.train.attention.pairs import Keyed, Pair, sdpa

SCALE = 0.3
PAIRS = {name: pair for name, pair in KERNELS.items() if isinstance(pair, Pair)}
WHOLE = [(5, 9), (5, 9), (3, 1), (40, 33)]
CAUSAL = [(7, 7), (1, 1), (7, 7), (40, 40)]


def tile(
    queries: int, keys: int, *, seed: int = 0, heads: int = 6, kv_heads: int = 2, width: int = 16
) -> Keyed:
    generator = torch.Generator().manual_seed(seed)
    shapes = (heads, queries, width), (kv_heads, keys, width), (kv_heads, keys, width)
    query, key, value = (torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes)
    return query, key, value


def tiles(sizes: list[tuple[int, int]], kv_heads: int, width: int = 16) -> list[Keyed]:
    return [tile(*size, seed=seed, kv_heads=kv_heads, width=width) for seed, size in enumerate(sizes)]


def written_out(query: Tensor, key: Tensor, value: Tensor, causal: bool) -> tuple[Tensor, Tensor]:
    ratio = query.shape[0] // key.shape[0]
    scores = SCALE * query @ key.repeat_interleave(ratio, 0).mT
    if causal:
        scores = scores.masked_fill(torch.ones_like(scores).triu(1).bool(), -math.inf)
    return scores.softmax(-1) @ value.repeat_interleave(ratio, 0), scores.logsumexp(-1)


def derived(grad: Tensor, one: Keyed, causal: bool) -> Keyed:
    """Give the gradients of query, key and value by autograd."""
    leaves = [x.detach().requires_grad_() for x in one]
    out, _ = written_out(leaves[0], leaves[1], leaves[2], causal)
    query, key, value = torch.autograd.grad(out, leaves, grad)
    return query, key, value


def close(found: Tensor, wanted: Tensor, error: float) -> None:
    assert found.shape == wanted.shape
    torch.testing.assert_close(found.cpu().double(), wanted, rtol=error, atol=error)


def check(pair: Pair, causal: bool, kv_heads: int, error: float, width: int = 16, **to: Any) -> None:
    """Hold a pair, given tiles as `to` says, against attention written out of what it was given."""
    sizes = CAUSAL if causal else WHOLE
    given = [tuple(x.to(**to) for x in one) for one in tiles(sizes, kv_heads, width)]
    exact = [tuple(x.cpu().double() for x in one) for one in given]
    wanted = [written_out(query, key, value, causal) for query, key, value in exact]
    found = pair.forward(given, causal, SCALE)  # type: ignore[arg-type]
    for (out, lse), (exact_out, exact_lse) in zip(found, wanted, strict=True):
        close(out, exact_out, error)
        close(lse, exact_lse, error)
    grads = [torch.randn(out.shape, dtype=torch.float64).to(**to) for out, _ in found]
    above = [(grad, out, lse) for grad, (out, lse) in zip(grads, found, strict=True)]
    for place, gradients in enumerate(pair.backward(above, given, causal, SCALE)):  # type: ignore[arg-type]
        back = derived(grads[place].cpu().double(), exact[place], causal)  # type: ignore[arg-type]
        for one, other in zip(gradients, back, strict=True):
            close(one, other, error)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("kv_heads", [1, 2, 6])
def test_sdpa_is_attention_written_out(causal: bool, kv_heads: int) -> None:
    check(sdpa, causal, kv_heads, 1e-12)
    check(sdpa, causal, kv_heads, 1e-5, dtype=torch.float32)


def parts_of_one_softmax(pair: Pair, error: float, **to: Any) -> None:
    """Give backward two tiles of one softmax, with the output and log-sum-exp of both together."""
    query, key, value = tile(12, 30)
    grad = torch.randn(query.shape, generator=torch.Generator().manual_seed(7), dtype=torch.float64)
    wanted = derived(grad, (query, key, value), False)
    out, lse = written_out(query, key, value, False)
    given = grad.to(**to), out.to(**to), lse.to(device=to.get("device"))
    given = (*given[:2], given[2].to(torch.promote_types(given[0].dtype, torch.float32)))
    cut = [
        tuple(x.to(**to) for x in (query, key[:, span], value[:, span]))
        for span in (slice(0, 11), slice(11, 30))
    ]
    one, other = pair.backward([given, given], cut, False, SCALE)  # type: ignore[arg-type]
    close(one[0] + other[0], wanted[0], error)
    for place in (1, 2):
        close(torch.cat([one[place], other[place]], 1), wanted[place], error)


def test_tiles_of_one_softmax_add_up_to_its_gradients() -> None:
    parts_of_one_softmax(sdpa, 1e-12)


efficient = pairs.Dense(pairs._efficient, pairs._efficient_backward)
ON_META: dict[str, Pair] = {
    "cudnn": pairs.cudnn,
    "sdpa on a GPU": Pair("efficient", efficient.forward, efficient.backward),
}


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("name", ["varlen", *ON_META])
def test_gpu_pairs_fit_the_installed_torch(name: str, causal: bool) -> None:
    """Without numbers: argument lists, and the shapes of what comes back."""
    device, pair = ("cuda", pairs.varlen) if name == "varlen" else ("meta", ON_META[name])
    with FakeTensorMode() if device == "cuda" else contextlib.nullcontext():
        given = [
            tuple(torch.empty(x.shape, dtype=torch.bfloat16, device=device) for x in one)
            for one in tiles(CAUSAL if causal else WHOLE, 2, 64)
        ]
        found = pair.forward(given, causal, SCALE)  # type: ignore[arg-type]
        assert [out.shape for out, _ in found] == [one[0].shape for one in given]
        assert [lse.shape for _, lse in found] == [one[0].shape[:2] for one in given]
        assert all(lse.dtype == torch.float32 for _, lse in found)
        above = [(torch.empty_like(out), out, lse) for out, lse in found]
        back = pair.backward(above, given, causal, SCALE)  # type: ignore[arg-type]
        assert [[x.shape for x in one] for one in back] == [[x.shape for x in one] for one in given]


@pytest.mark.gpu
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("name", sorted(PAIRS))
def test_gpu_pairs_are_attention_written_out(name: str, causal: bool) -> None:
    if name == "flash" and importlib.util.find_spec("flash_attn") is None:
        pytest.skip("flash-attn is not installed")
    if name == "sdpa":
        check(PAIRS[name], causal, 2, 1e-4, width=64, dtype=torch.float32, device="cuda")
    check(PAIRS[name], causal, 2, 6e-2, width=64, dtype=torch.bfloat16, device="cuda")
    parts_of_one_softmax(PAIRS[name], 6e-2, dtype=torch.bfloat16, device="cuda")
