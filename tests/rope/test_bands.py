"""Attention schemes equal one softmax over the full matrix of relative positions."""

import copy
import json
import math
import pickle
from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import scaled_dot_product_attention as sdpa
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ropewalk.rope import Base, NotExpressible, RopeError, bands, make_scheme, rotate, rotation_table, tiles
from ropewalk.rope.bands import BandedAttention

LENGTH, SCALE = 90, 0.3
SCHEMES: dict[str, dict[str, Any]] = {
    "self-extend": {"group": 4, "window": 8},
    "self-extend, group divides no window": {"group": 5, "window": 13},
    "self-extend, window below group": {"group": 7, "window": 3},
    "self-extend, derived": {},
    "dca": {"chunk": 24, "window": 7},
    "dca, window above half the chunk": {"chunk": 24, "window": 15, "attention_scale": 1.2},
    "dca, derived": {},
    "dca, as Qwen has it": {"chunk": 64, "window": 5, "log_scale": 0.1},
}


def scheme_of(case: str) -> Any:
    return make_scheme(case.partition(",")[0], **SCHEMES[case])


def relative_positions(scheme, base, length):
    """Say, pair by pair, what the papers' formulas give: whole [length, length], 0 above the diagonal."""
    found = torch.zeros(length, length, dtype=torch.int64)
    for m in range(length):
        for n in range(m + 1):
            found[m, n] = relative_position(scheme, base, length, m, n)
    return found


def relative_position(scheme, base, length, m, n):
    if scheme.name == "self-extend":
        w, g = scheme.window_for(base), scheme.group_for(base, length)
        return m - n if m - n < w else m // g - n // g + w - w // g
    cap, chunk = scheme.sizes(base)
    far = {0: m % chunk, 1: min(m % chunk + chunk, cap)}
    return far.get(m // chunk - n // chunk, min(2 * chunk - 1, cap)) - n % chunk


def slow_attention(qkv, positions, base, scale=SCALE, attention_scale=1.0, log_scale=0.0):
    """Turn each query anew for each key, by their relative position: [Hq, S, D], the last S of T tokens."""
    query, key, value = qkv
    repeats, length = query.shape[0] // key.shape[0], key.shape[1]
    query, (key, value) = query.double(), (x.double().repeat_interleave(repeats, 0) for x in (key, value))
    start, half = length - query.shape[1], base.rotary_dim // 2
    angles = positions[start:, :, None].double() * torch.tensor(base.unscaled())
    first, second, rest = query[..., None, :half], query[..., None, half : 2 * half], query[..., 2 * half :]
    turned = torch.cat(
        (first * angles.cos() - second * angles.sin(), second * angles.cos() + first * angles.sin()), -1
    )
    scores = attention_scale**2 * (turned * key[:, None, :, : 2 * half]).sum(-1)
    scores = (scores + rest @ key[..., 2 * half :].mT) * scale
    counts = torch.arange(start + 1, length + 1, dtype=torch.float64)[:, None]
    scores = scores * (1 + log_scale * (counts / base.original_length).log().clip(min=0)) ** 2
    ahead = torch.arange(length) > torch.arange(start, length)[:, None]
    return scores.masked_fill(ahead, -math.inf).softmax(-1) @ value


@pytest.fixture
def small(make_base):
    return make_base(head_dim=16, theta=100.0, original_length=64, query_heads=4)


def attention_of(scheme: Any, base: Base, length: int = LENGTH) -> Any:
    frequencies = scheme.frequencies(base, target_length=length)
    return BandedAttention(scheme, base, frequencies, target_length=length)


def random_qkv(base: Base, length: int = LENGTH, rows: int = 2, dtype=torch.float64) -> Any:
    torch.manual_seed(0)
    heads = (base.query_heads, base.kv_heads, base.kv_heads)
    return [torch.randn(rows, count, length, base.head_dim, dtype=dtype) for count in heads]


def expected(scheme, base, qkv, groups):
    """Run the slow attention on every span of every row, zeros elsewhere; all keys have their queries."""
    scales = {name: scheme.knobs.get(name, none) for name, none in (("attention_scale", 1), ("log_scale", 0))}
    out = torch.zeros_like(qkv[0], dtype=torch.float64)
    whole = relative_positions(scheme, base, LENGTH)
    for row, spans in enumerate(groups):
        for start, stop in spans:
            part = [x[row, :, start:stop] for x in qkv]
            positions = whole[: stop - start, : stop - start]
            out[row, :, start:stop] = slow_attention(part, positions, base, **scales)
    return out


GROUPS = {
    "whole rows": [[(0, LENGTH)], [(0, LENGTH)]],
    "left padding": [[(0, LENGTH)], [(41, LENGTH)]],
    "right padding": [[(0, 50)], [(0, LENGTH)]],
    "packed": [[(0, 30), (30, 31), (31, LENGTH)], [(5, 5), (5, 80)]],
}


@pytest.mark.parametrize("groups", GROUPS.values(), ids=GROUPS.keys())
@pytest.mark.parametrize("case", SCHEMES)
def test_equals_the_full_position_matrix(small, case, groups):
    scheme, qkv = scheme_of(case), random_qkv(small)
    out = attention_of(scheme, small)(*qkv, groups, SCALE)
    torch.testing.assert_close(out, expected(scheme, small, qkv, groups), rtol=0, atol=1e-12)


@pytest.mark.parametrize("rotary_dim", [8, 12])
@pytest.mark.parametrize("case", ["self-extend", "dca, window above half the chunk", "dca, as Qwen has it"])
def test_channels_that_do_not_rotate_carry_no_position(make_base, case, rotary_dim):
    base = make_base(head_dim=16, rotary_dim=rotary_dim, theta=100.0, original_length=64, query_heads=4)
    scheme, qkv = scheme_of(case), random_qkv(base)
    out = attention_of(scheme, base)(*qkv, GROUPS["whole rows"], SCALE)
    torch.testing.assert_close(out, expected(scheme, base, qkv, GROUPS["whole rows"]), rtol=0, atol=1e-12)


@pytest.mark.parametrize("case", SCHEMES)
def test_a_cache_changes_nothing(small, case):
    query, key, value = random_qkv(small)
    attention, groups = attention_of(scheme_of(case), small), GROUPS["left padding"]
    whole = attention(query, key, value, groups, SCALE)
    ends = [0, 29, 50, 51, 52, 77, *range(78, LENGTH + 1)]  # chunked prefill, then token by token
    for start, stop in pairwise(ends):
        spans = [[(first, stop)] if first < stop else [] for ((first, _),) in groups]
        out = attention(query[:, :, start:stop], key[:, :, :stop], value[:, :, :stop], spans, SCALE)
        torch.testing.assert_close(out, whole[:, :, start:stop], rtol=0, atol=1e-12)


@settings(max_examples=60, deadline=None)
@given(
    data=st.data(),
    length=st.integers(1, 60),
    window=st.integers(1, 31),
    other=st.integers(1, 12),
    extend=st.booleans(),
)
def test_any_sizes(make_base, data, length, window, other, extend):
    base = make_base(head_dim=4, theta=100.0, original_length=64, query_heads=2, kv_heads=1)
    knobs = {"group": other} if extend else {"chunk": window + other}
    scheme: Any = make_scheme("self-extend" if extend else "dca", window=window, **knobs)
    query, key, value = random_qkv(base, length, rows=1)
    query = query[:, :, -data.draw(st.integers(1, length), label="queries") :]
    positions = relative_positions(scheme, base, length)
    assert positions.max() == scheme.largest_position(base, target_length=length) < 64
    out = attention_of(scheme, base, length)(query, key, value, [[(0, length)]], SCALE)
    slow = slow_attention((query[0], key[0], value[0]), positions, base)
    torch.testing.assert_close(out[0], slow, rtol=0, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("case", ["self-extend, derived", "dca, derived"])
def test_short_texts_are_attended_to_as_ever(small, case, dtype):
    """Below the window, or in the first chunk, the very bits of plain causal attention."""
    scheme, length = scheme_of(case), 32
    query, key, value = random_qkv(small, length, dtype=dtype)
    out = attention_of(scheme, small, 512)(query, key, value, [[(0, length)]] * 2, SCALE)
    frequencies = scheme.frequencies(small, target_length=512)
    table = rotation_table(torch.arange(length)[None], frequencies, torch.promote_types(dtype, torch.float32))
    query, key = rotate(query, table, dtype), rotate(key, table, dtype)
    assert torch.equal(out, sdpa(query, key, value, is_causal=True, scale=SCALE, enable_gqa=True))


@pytest.mark.parametrize("case", ["self-extend", "dca, window above half the chunk", "dca, as Qwen has it"])
@pytest.mark.parametrize("rows", [tiles.ROWS, 16])
def test_gradients(small, case, rows, monkeypatch):
    for module in (bands, tiles):
        monkeypatch.setattr(module, "ROWS", rows)
    scheme, groups = scheme_of(case), GROUPS["left padding"]
    qkv = [x.requires_grad_() for x in random_qkv(small)]
    weights = torch.randn(2, 4, LENGTH, 16, dtype=torch.float64)
    ours = torch.autograd.grad((attention_of(scheme, small)(*qkv, groups, SCALE) * weights).sum(), qkv)
    slow = torch.autograd.grad((expected(scheme, small, qkv, groups) * weights).sum(), qkv)
    for mine, other in zip(ours, slow, strict=True):
        torch.testing.assert_close(mine, other, rtol=0, atol=1e-12)


@pytest.mark.parametrize("rows", [tiles.ROWS, 16])
def test_matrix_products_where_no_fused_kernel_runs(small, rows, monkeypatch):
    for module in (bands, tiles):
        monkeypatch.setattr(module, "ROWS", rows)
    monkeypatch.setattr(tiles, "fused", tiles.plain)
    scheme, groups, qkv = scheme_of("self-extend"), GROUPS["left padding"], random_qkv(small)
    out = attention_of(scheme, small)(*qkv, groups, SCALE)
    torch.testing.assert_close(out, expected(scheme, small, qkv, groups), rtol=0, atol=1e-12)


@pytest.mark.parametrize(("dtype", "atol"), [(torch.float32, 2e-6), (torch.bfloat16, 0.02)])
@pytest.mark.parametrize("case", ["self-extend", "dca", "dca, as Qwen has it"])
def test_dtypes(small, case, dtype, atol):
    check_dtype(scheme_of(case), small, dtype, atol, "cpu")


@pytest.mark.gpu
@pytest.mark.parametrize(
    ("dtype", "atol"), [(torch.float64, 1e-12), (torch.float32, 2e-6), (torch.bfloat16, 0.02)]
)
@pytest.mark.parametrize("case", ["self-extend", "dca"])
def test_cuda(small, case, dtype, atol):
    check_dtype(scheme_of(case), small, dtype, atol, "cuda")


def check_dtype(scheme, base, dtype, atol, device):
    qkv = random_qkv(base, dtype=dtype)
    out = attention_of(scheme, base)(*(x.to(device) for x in qkv), GROUPS["left padding"], SCALE).cpu()
    assert out.dtype == dtype
    slow = expected(scheme, base, qkv, GROUPS["left padding"])
    torch.testing.assert_close(out.double(), slow, rtol=0, atol=atol)


class Largest(TorchDispatchMode):
    """Note the elements of the largest tensor that any operator gives or takes."""

    elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        seen = (x.numel() for x in tree_leaves((args, result)) if isinstance(x, torch.Tensor))
        self.elements = max(self.elements, *seen, 0)
        return result


@pytest.mark.parametrize("name", ["self-extend", "dca"])
def test_nothing_is_as_large_as_the_scores(make_base, name):
    length = 8192
    base = make_base(head_dim=8, original_length=2048, query_heads=2, kv_heads=1)
    query, key, value = random_qkv(base, length, rows=1, dtype=torch.float32)
    attention = attention_of(make_scheme(name), base, length)
    with Largest() as seen:
        attention(query, key, value, [[(0, length)]], SCALE)
    assert seen.elements <= query.numel()
    with Largest() as seen:
        attention(query.requires_grad_(), key, value, [[(0, length)]], SCALE).sum().backward()
    assert seen.elements <= base.query_heads * tiles.ROWS**2 < length**2 / 16


def test_derived_sizes(make_base):
    base = make_base(original_length=4096)
    extend, dca = scheme_of("self-extend, derived"), scheme_of("dca, derived")
    assert dca.sizes(base) == (3072, 2560)  # ChunkLlama's for 4096: 3/4 L, and L/8 less
    assert dca.reach(base, target_length=32769) == 32768 / 3072
    window = extend.window_for(base)
    for group in (1, 2, 8, 64):
        furthest = (4096 - window) * group + window  # Self-Extend's README
        assert extend.group_for(base, furthest) == group
        assert extend.group_for(base, furthest + 1) == group + 1
        assert extend.largest_position(base, target_length=furthest) == 4095
        assert extend.reach(base, target_length=furthest) == (furthest - 1) / 4095


@pytest.mark.parametrize("case", SCHEMES)
def test_what_a_scheme_says_of_itself(small, case):
    scheme = scheme_of(case)
    assert make_scheme(scheme.name, **json.loads(json.dumps(scheme.knobs))) == scheme
    assert scheme.training_free
    frequencies = scheme.frequencies(small, target_length=LENGTH)
    assert (frequencies.inv_freq[0] == small.unscaled()).all()
    assert frequencies.attention_scale == SCHEMES[case].get("attention_scale", 1)
    with pytest.raises(NotExpressible, match=f"rope.{scheme.name}: .*; serve it with ropewalk"):
        scheme.to_hf(small, target_length=LENGTH)


@pytest.mark.parametrize("again", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_copies_attend_alike(small, again):
    attention, qkv = attention_of(scheme_of("self-extend, derived"), small), random_qkv(small)
    out = attention(*qkv, GROUPS["packed"], SCALE)
    assert torch.equal(again(attention)(*qkv, GROUPS["packed"], SCALE), out)


def test_a_table_of_inference_serves_training(small):
    attention, qkv = attention_of(scheme_of("dca"), small), random_qkv(small)
    with torch.inference_mode():
        attention(*qkv, GROUPS["packed"], SCALE)
    attention(qkv[0].requires_grad_(), *qkv[1:], GROUPS["packed"], SCALE).sum().backward()
    assert qkv[0].grad is not None


BAD_KNOBS = [
    ("self-extend", {"group": 0}, "rope.self-extend.group", "0", "leave it out"),
    ("self-extend", {"group": 2.0}, "rope.self-extend.group", "2.0", "leave it out"),
    ("self-extend", {"window": True}, "rope.self-extend.window", "True", "leave it out"),
    ("self-extend", {"window": 64}, "rope.self-extend.window", "64", "half of it"),
    ("self-extend", {"window": 32, "group": 2}, "rope.self-extend.group", "got 2", "use 4"),
    ("dca", {"chunk": 1}, "rope.dca.chunk", "1", "leave it out"),
    ("dca", {"window": 0}, "rope.dca.window", "0", "leave it out"),
    ("dca", {"chunk": 65}, "rope.dca.chunk", "65", "three quarters"),
    ("dca", {"log_scale": -0.1}, "rope.dca.log_scale", "-0.1", "usually 0"),
    ("dca", {"chunk": 8}, "rope.dca.window", "8", "a sixth"),
    ("dca", {"attention_scale": 0}, "rope.dca.attention_scale", "0", "usually 1"),
]


@pytest.mark.parametrize(("name", "knobs", "key", "value", "cure"), BAD_KNOBS)
def test_bad_knobs(small, name, knobs, key, value, cure):
    with pytest.raises(RopeError) as caught:
        attention_of(make_scheme(name, **knobs), small, 130)
    assert_message(caught, key, value, cure)


BAD_CALLS = [
    ((2, 4, 9), (2, 2, 8), [[(0, 8)]] * 2, "attention.query", "[2, 4, 9, 16]", "every key"),
    ((2, 3, 8), (2, 2, 8), [[(0, 8)]] * 2, "attention.query", "[2, 3, 8, 16]", "every key"),
    ((2, 4, 8), (2, 2, 8), [[(0, 8)]], "attention.groups", "got 1", "every row"),
    ((1, 4, 8), (1, 2, 8), [[(0, 9)]], "attention.groups", "(0, 9)", "(start, stop)"),
    ((1, 4, 8), (1, 2, 8), [[(-1, 8)]], "attention.groups", "(-1, 8)", "(start, stop)"),
    ((1, 4, 8), (1, 2, 8), [[(4, 8), (0, 5)]], "attention.groups", "(0, 5)", "(start, stop)"),
]


@pytest.mark.parametrize(("query", "key", "groups", "where", "value", "cure"), BAD_CALLS)
def test_bad_calls(small, query, key, groups, where, value, cure):
    q, k = (torch.zeros(*shape, 16) for shape in (query, key))
    with pytest.raises(RopeError) as caught:
        attention_of(make_scheme("dca"), small)(q, k, k, groups, SCALE)
    assert_message(caught, where, value, cure)


def assert_message(caught, key, value, cure):
    where, _, rest = str(caught.value).partition(": ")
    assert where == key
    assert value in rest
    assert cure in rest
