"""Angles hold at millions of tokens, and turning q and k costs one rounding."""

import copy
import pickle

import mpmath
import numpy as np
import pytest
import torch
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

from ropewalk.rope import Frequencies, Rotary, make_scheme, rotate, rotation_table
from ropewalk.rope import rotation as rotation_module

MILLIONS = 8 * 2**20


def default(base, length=8192):
    return make_scheme("default").frequencies(base, target_length=length)


@pytest.mark.parametrize("theta", [1e4, 5e5, 1.28e8])
def test_angles_are_exact_to_eight_million_tokens(make_base, theta):
    """Against 40 digits: |cos - exact| and |sin - exact| within 1e-6."""
    base = make_base(head_dim=128, theta=theta)
    random = torch.randint(0, MILLIONS, (24,), generator=torch.Generator().manual_seed(0))
    positions = torch.cat((random, torch.tensor([0, 1, 2**20, 2**22 + 1, MILLIONS - 1, MILLIONS])))
    table = rotation_table(positions[None], default(base))
    with mpmath.workdps(40):
        speed = [mpmath.mpf(theta) ** (mpmath.mpf(-2 * i) / 128) for i in range(64)]
        exact = [[mpmath.expj(int(p) * s) for s in speed] for p in positions]
    cos = torch.tensor([[float(z.real) for z in row] for row in exact], dtype=torch.float64)
    sin = torch.tensor([[float(z.imag) for z in row] for row in exact], dtype=torch.float64)
    assert (table.cos[0, 0].double() - cos).abs().max() <= 1e-6
    assert (table.sin[0, 0].double() - sin).abs().max() <= 1e-6


def test_the_turn_is_transformers(make_base):
    frequencies = default(make_base())
    q, k = torch.randn(2, 3, 4, 50, 64, dtype=torch.float64)
    positions = torch.randint(0, 5000, (3, 50))
    angles = (positions[..., None] * torch.tensor(frequencies.inv_freq[0])).repeat(1, 1, 2)
    want = apply_rotary_pos_emb(q, k, angles.cos(), angles.sin())
    got = Rotary(frequencies)(q, k, positions, last_slot=49, dtype=torch.float64)
    torch.testing.assert_close(got, want, rtol=0, atol=1e-12)


def test_bfloat16_costs_one_rounding(make_base):
    """At positions to 8M, a bfloat16 q turned is the exact turn of those values, rounded once (2^-8)."""
    frequencies = make_scheme("yarn").frequencies(make_base(head_dim=128, theta=5e5), target_length=MILLIONS)
    q = torch.randn(1, 4, 512, 128).bfloat16()
    positions = torch.randint(0, MILLIONS, (1, 512))
    got = rotate(q, rotation_table(positions, frequencies), torch.bfloat16)
    exact = rotate(q.double(), rotation_table(positions, frequencies, torch.float64), torch.float64)
    # float32 arithmetic before the rounding: a few 2^-24 of the pair's length
    pair = (q[..., :64].double() ** 2 + q[..., 64:].double() ** 2).sqrt().repeat(1, 1, 1, 2)
    assert got.dtype == torch.bfloat16
    assert ((got.double() - exact).abs() <= 2**-8 * exact.abs() + 4e-7 * pair).all()


def test_channels_beyond_rotary_dim_are_left_alone(make_base):
    frequencies = default(make_base(head_dim=64, rotary_dim=16))
    q = torch.randn(1, 2, 10, 64)
    got = rotate(q, rotation_table(torch.arange(10)[None], frequencies), torch.float32)
    assert torch.equal(got[..., 16:], q[..., 16:])
    assert not torch.equal(got[..., 1:, :16], q[..., 1:, :16])
    alone = rotate(q[..., :16], rotation_table(torch.arange(10)[None], frequencies), torch.float32)
    assert torch.equal(got[..., :16], alone)


def test_query_heads_use_the_frequencies_of_their_kv_head(make_base):
    base = make_base(query_heads=6, kv_heads=3)
    rows = base.unscaled() / np.array([[1.0], [2.0], [4.0]])
    q, k, positions = torch.randn(2, 6, 9, 64), torch.randn(2, 3, 9, 64), torch.randint(0, 10**6, (2, 9))
    got_q, got_k = Rotary(Frequencies(inv_freq=rows))(q, k, positions, last_slot=8, dtype=torch.float32)
    for kv_head in range(3):
        table = rotation_table(positions, Frequencies(inv_freq=rows[kv_head : kv_head + 1]))
        span = slice(2 * kv_head, 2 * kv_head + 2)
        assert torch.equal(got_q[:, span], rotate(q[:, span], table, torch.float32))
        assert torch.equal(got_k[:, kv_head], rotate(k[:, kv_head, None], table, torch.float32)[:, 0])


def test_keys_of_a_cache_end_at_the_query(make_base):
    rotary = Rotary(default(make_base()))
    x, positions = torch.randn(2, 2, 12, 64), torch.arange(12)[None] + torch.tensor([[100], [7]])
    whole_q, whole_k = rotary(x, x, positions, last_slot=11, dtype=torch.float32)
    q, k = rotary(x[:, :, -3:], x, positions[:, -3:], last_slot=11, dtype=torch.float32)
    assert torch.equal(q, whole_q[:, :, -3:])
    assert torch.equal(k, whole_k)
    # a static cache is longer than what it holds
    room = torch.cat((x, torch.zeros(2, 2, 4, 64)), dim=2)
    _, k = rotary(x[:, :, -3:], room, positions[:, -3:], last_slot=11, dtype=torch.float32)
    assert torch.equal(k[:, :, :12], whole_k)


def test_long_tables_are_built_in_chunks(make_base, monkeypatch):
    frequencies, positions = default(make_base()), torch.randint(0, 10**6, (2, 100))
    whole = rotation_table(positions, frequencies)
    monkeypatch.setattr(rotation_module, "CHUNK", 7)
    parts = rotation_table(positions, frequencies)
    assert torch.equal(whole.cos, parts.cos)
    assert torch.equal(whole.sin, parts.sin)


class TestMemo:
    """One table a step, and never a stale one."""

    def build(self, make_base, monkeypatch):
        built = []

        def counted(*args, **more):
            built.append(args)
            return rotation_table(*args, **more)

        monkeypatch.setattr(rotation_module, "rotation_table", counted)
        q = torch.randn(1, 2, 6, 64)
        rotary = Rotary(default(make_base()))
        return built, lambda at, dtype=torch.float32: rotary(q, q, at, last_slot=5, dtype=dtype)[0]

    def test_layers_share_it(self, make_base, monkeypatch):
        built, turn = self.build(make_base, monkeypatch)
        positions = torch.arange(6)[None]
        assert torch.equal(turn(positions), turn(positions))
        turn(positions, torch.bfloat16)
        assert len(built) == 1
        turn(positions, torch.float64)
        assert len(built) == 2

    def test_a_change_in_place_is_seen(self, make_base, monkeypatch):
        _, turn = self.build(make_base, monkeypatch)
        positions = torch.arange(6)[None].clone()
        before = turn(positions)
        positions += 5
        assert torch.equal(turn(positions), turn(positions.clone()))
        assert not torch.equal(turn(positions), before)

    def test_a_change_in_inference_mode_is_seen(self, make_base, monkeypatch):
        built, turn = self.build(make_base, monkeypatch)
        with torch.inference_mode():
            positions = torch.arange(6)[None].clone()
            before = turn(positions)
            turn(positions)
            assert len(built) == 1
            positions += 5
            assert not torch.equal(turn(positions), before)
            assert len(built) == 2

    def test_a_table_of_inference_mode_does_not_reach_training(self, make_base):
        rotary, positions = Rotary(default(make_base())), torch.arange(6)[None]
        q = torch.randn(1, 2, 6, 64, requires_grad=True)
        with torch.inference_mode():
            rotary(q, q, positions, last_slot=5, dtype=torch.float32)
        rotary(q, q, positions, last_slot=5, dtype=torch.float32)[0].sum().backward()
        assert q.grad is not None

    def test_two_schemes_coexist(self, make_base):
        q, positions = torch.randn(1, 2, 6, 64), torch.arange(6)[None]
        slow, fast = Rotary(default(make_base(theta=5e5))), Rotary(default(make_base(theta=1e4)))
        turned = [r(q, q, positions, last_slot=5, dtype=torch.float32)[0] for r in (slow, fast, slow)]
        assert torch.equal(turned[0], turned[2])
        assert not torch.equal(turned[0], turned[1])

    def test_copies_carry_no_table(self, make_base):
        rotary = Rotary(default(make_base()))
        q, positions = torch.randn(1, 2, 4096, 64), torch.arange(4096)[None]
        rotary(q, q, positions, last_slot=4095, dtype=torch.float32)
        assert len(pickle.dumps(rotary)) < 10_000
        assert copy.deepcopy([rotary, rotary])[0].frequencies.fingerprint == rotary.frequencies.fingerprint
