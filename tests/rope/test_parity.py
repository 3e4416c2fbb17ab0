"""Every scheme equals transformers' function where there is one, else the published formula."""

import math
import random
from types import SimpleNamespace

import numpy as np
import pytest
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

from ropewalk.rope import make_scheme
from ropewalk.rope.hf import static_container
from ropewalk.rope.schemes.yarn import Yarn

HEAD_DIMS = (64, 128, 256)
# every theta with every length, and each head size with every one of both
GRID = [
    (HEAD_DIMS[(i + j) % 3], theta, length)
    for i, theta in enumerate((1e4, 5e5, 1e6, 1e8))
    for j, length in enumerate((2048, 4096, 8192, 32768, 131072))
]
FACTORS = (1, 2, 4.5, 32, 128, 512)


def theirs(parameters, base, factor, length=None):
    """Return transformers' float32 frequencies at a length, as float64, and its attention factor."""
    config = SimpleNamespace(
        rope_parameters=parameters,
        head_dim=base.head_dim,
        hidden_size=8 * base.head_dim,
        num_attention_heads=8,
        max_position_embeddings=int(base.original_length * factor),
        standardize_rope_params=lambda: None,
    )
    kind = parameters["rope_type"]
    default = LlamaRotaryEmbedding.compute_default_rope_parameters
    function = default if kind == "default" else ROPE_INIT_FUNCTIONS[kind]
    inv_freq, scale = function(config, seq_len=length)  # pyright: ignore[reportArgumentType]
    return inv_freq.double().numpy(), scale


def compare(scheme, base, factor, parameters):
    """Compare at 1e-5, plus what float32 blending may lose.

    A blend (1 - r) theta / s + r theta adds two terms of very different size, so transformers' float32 r,
    itself a few units in the last place off, costs that much of *theta* and not of the result. Where r is 0
    or 1, which is where a rounded edge could flip a dimension, nothing is added and nothing is allowed.
    """
    got = scheme.frequencies(base, target_length=int(base.original_length * factor))
    want, scale = theirs(parameters, base, factor)
    ours, unscaled = got.inv_freq[0], base.unscaled()
    blended = (ours < unscaled * (1 - 1e-9)) & (ours > unscaled / factor * (1 + 1e-9))
    slack = 1e-5 * ours + np.where(blended, 4e-6 * unscaled, 0.0)
    apart = np.abs(ours - want)
    assert (apart <= slack).all(), (apart / slack).max()
    assert got.attention_scale == pytest.approx(scale, abs=1e-12)


@pytest.mark.parametrize(("head_dim", "theta", "length"), GRID)
def test_transformers_agrees(make_base, head_dim, theta, length):
    base = make_base(head_dim=head_dim, theta=theta, original_length=length)
    common = {"rope_theta": theta, "original_max_position_embeddings": length}
    compare(make_scheme("default"), base, 1, common | {"rope_type": "default"})
    for factor in FACTORS:
        shared = common | {"factor": factor}
        compare(make_scheme("linear"), base, factor, shared | {"rope_type": "linear"})
        compare(make_scheme("yarn"), base, factor, shared | {"rope_type": "yarn"})
        bounds = {"rope_type": "llama3", "low_freq_factor": 1.0, "high_freq_factor": 4.0}
        compare(make_scheme("llama3"), base, factor, shared | bounds)


@pytest.mark.parametrize(("head_dim", "theta", "length"), GRID)
def test_transformers_agrees_on_longrope(make_base, head_dim, theta, length):
    base, draw = make_base(head_dim=head_dim, theta=theta, original_length=length), random.Random(length)
    default, _ = theirs({"rope_type": "default", "rope_theta": theta}, base, 1)
    for factor in FACTORS:
        target = int(length * factor)
        long, short = (
            sorted(draw.uniform(1, 1.25 * top) for _ in range(head_dim // 2)) for top in (factor, 2)
        )
        scheme = make_scheme("longrope", factors=long, short_factors=short)
        written = scheme.to_hf(base, target_length=target)
        # what transformers computes by itself from the lengths is what we write
        bare = {key: value for key, value in written.items() if key not in ("factor", "attention_factor")}
        for at in (length, length + 1, 2 * length):
            got = scheme.frequencies(base, target_length=target, length=at)
            for parameters in (written, bare):
                want, scale = theirs(parameters, base, target / length, at)
                # against its own unscaled float32 frequencies, whose power is off by 1e-6
                ours, read = base.unscaled() / got.inv_freq[0], default / want
                np.testing.assert_allclose(ours, read, rtol=1e-6)
                np.testing.assert_allclose(got.inv_freq[0], want, rtol=1e-5)
                assert got.attention_scale == pytest.approx(scale, abs=1e-12)


@pytest.mark.parametrize(("head_dim", "theta", "length"), GRID)
def test_transformers_agrees_on_dynamic(make_base, head_dim, theta, length):
    base = make_base(head_dim=head_dim, theta=theta, original_length=length)
    for factor in FACTORS:
        scheme, target = make_scheme("dynamic"), int(length * factor)
        written = scheme.to_hf(base, target_length=target)
        # max_position_embeddings is the original length: what hf_window says
        assert scheme.hf_window(base, target_length=target) == length
        for at in (length // 2, length, length + 1, 2 * length, target):
            got = scheme.frequencies(base, target_length=target, length=at)
            want, scale = theirs(written, base, 1, at)
            np.testing.assert_allclose(got.inv_freq[0], want, rtol=1e-5)
            assert got.attention_scale == scale


CONTAINED = [("linear", {}), ("ntk", {}), ("abf", {}), ("yarn", {}), ("llama3", {}), ("longrope", {})]
CONTAINED += [("yarn", {"ramp": "turns"}), ("resonance", {})]


@pytest.mark.parametrize(("name", "knobs"), CONTAINED)
@pytest.mark.parametrize(("head_dim", "theta", "length"), GRID[::7])
def test_transformers_reads_the_container(make_base, head_dim, theta, length, name, knobs):
    base = make_base(head_dim=head_dim, theta=theta, original_length=length)
    default, _ = theirs({"rope_type": "default", "rope_theta": theta}, base, 1)
    made = make_scheme(name, **knobs).frequencies(base, target_length=16 * length)
    written = static_container(base, made, 16 * length)
    assert written["factor"] == 16
    for at in (None, length, length + 1):
        want, scale = theirs(written, base, 16, at)
        exact = want / default * base.unscaled()
        np.testing.assert_allclose(made.inv_freq[0], exact, rtol=1e-6)
        assert made.attention_scale == scale


@pytest.mark.parametrize("knobs", [{"beta_fast": 4}, {"truncate": False}, {"beta_fast": 128, "beta_slow": 2}])
@pytest.mark.parametrize("length", [2048, 131072])
def test_transformers_agrees_on_yarn_knobs(make_base, knobs, length):
    base = make_base(head_dim=128, original_length=length)
    common = {"rope_type": "yarn", "rope_theta": 1e4, "original_max_position_embeddings": length}
    compare(make_scheme("yarn", **knobs), base, 16, common | {"factor": 16.0} | knobs)


@pytest.mark.parametrize("knobs", [{"low_freq_factor": 2}, {"high_freq_factor": 32, "low_freq_factor": 0.5}])
def test_transformers_agrees_on_llama3_knobs(make_base, knobs):
    base = make_base(head_dim=128, theta=5e5)
    scheme = make_scheme("llama3", **knobs)
    common = {"rope_type": "llama3", "rope_theta": 5e5, "original_max_position_embeddings": 8192}
    compare(scheme, base, 8, common | {"factor": 8.0} | scheme.knobs | {"factor": 8.0})


def test_transformers_agrees_where_only_some_channels_rotate(make_base):
    base = make_base(head_dim=128, rotary_dim=32)
    common = {"rope_theta": 1e4, "partial_rotary_factor": 0.25, "original_max_position_embeddings": 8192}
    compare(make_scheme("yarn"), base, 8, common | {"rope_type": "yarn", "factor": 8.0})


@pytest.mark.parametrize(("head_dim", "theta", "length"), GRID)
def test_ntk_divides_the_slowest_frequency_by_the_factor(make_base, head_dim, theta, length):
    base = make_base(head_dim=head_dim, theta=theta, original_length=length)
    for factor in FACTORS:
        got = make_scheme("ntk").frequencies(base, target_length=int(length * factor)).inv_freq[0]
        index = np.arange(head_dim // 2)
        # lambda_i = s^(2i / (d - 2)), the other way to write the raised base
        want = base.unscaled() / factor ** (2 * index / (head_dim - 2))
        np.testing.assert_allclose(got, want, rtol=1e-12)


@pytest.mark.parametrize(("factor", "theta"), [(8, 82_685), (32, 338_097)])
def test_ntk_published_bases(make_base, factor, theta):
    scheme = make_scheme("ntk", factor=factor)
    assert scheme.to_hf(make_base(head_dim=128), target_length=8192)["rope_theta"] == pytest.approx(
        theta, rel=1e-5
    )


@pytest.mark.parametrize(("head_dim", "theta", "length"), GRID)
def test_abf_keeps_the_critical_dimension_in_its_trained_range(make_base, head_dim, theta, length):
    base = make_base(head_dim=head_dim, theta=theta, original_length=length)
    # the (real) exponent whose wavelength is the original window: one turn
    critical = math.log(length / (2 * math.pi)) / math.log(theta)
    for factor in FACTORS:
        raised = make_scheme("abf").to_hf(base, target_length=int(length * factor))["rope_theta"]
        turns = int(length * factor) * raised**-critical / (2 * math.pi)
        assert turns == pytest.approx(1, rel=1e-9)


def test_abf_takes_a_stated_base(make_base):
    got = make_scheme("abf", theta=8e6).frequencies(make_base(theta=5e5), target_length=65536)
    want, _ = theirs({"rope_type": "default", "rope_theta": 8e6}, make_base(theta=8e6), 1)
    np.testing.assert_allclose(got.inv_freq[0], want, rtol=1e-5)


def test_yarn_scale_is_the_papers_unless_stated(make_base):
    base = make_base()
    assert make_scheme("yarn").frequencies(base, target_length=8192 * 16).attention_scale == pytest.approx(
        0.1 * math.log(16) + 1
    )
    assert (
        make_scheme("yarn", attention_scale=1.5).frequencies(base, target_length=8192).attention_scale == 1.5
    )


# UltraLong-8B (2504.06214): 1M, 2M and 4M from 8K with alpha 1 and beta 4
@pytest.mark.parametrize(("millions", "factor"), [(1, 128), (2, 256), (4, 512)])
def test_ultralong_is_yarn_from_the_original_window(make_base, millions, factor):
    base = make_base(head_dim=128, theta=5e5)
    scheme = make_scheme("yarn", beta_fast=4, beta_slow=1)
    got = scheme.frequencies(base, target_length=millions * 2**20)
    assert scheme.to_hf(base, target_length=millions * 2**20)["factor"] == factor
    assert got.stretch(base) == pytest.approx(factor)
    common = {"rope_type": "yarn", "rope_theta": 5e5, "original_max_position_embeddings": 8192}
    compare(scheme, base, factor, common | {"factor": float(factor), "beta_fast": 4, "beta_slow": 1})


# LongRoPE2 (2502.20082): LLaMA3-8B's real critical pair is 30 where theory has 35, Phi3-mini's 25 for 31
@pytest.mark.parametrize(
    ("shape", "theory", "real"),
    [
        ({"head_dim": 128, "theta": 5e5, "original_length": 8192}, 35, 30),
        ({"head_dim": 96, "theta": 1e4, "original_length": 2048}, 31, 25),
    ],
)
def test_yarn_moves_its_knee_to_the_real_critical_pair(make_base, shape, theory, real):
    base, target = make_base(**shape), 131072
    factor = target / base.original_length
    usual, moved = Yarn(), Yarn(critical_pair=real)
    shares = [scheme.interpolation(base).tolist() for scheme in (usual, moved)]
    assert [share.index(1.0) for share in shares] == [theory, real]
    # the ramp is the same, only earlier
    assert shares[1] == pytest.approx((shares[0] + [1.0] * 10)[theory - real :][: len(shares[0])], abs=1e-12)
    # stock transformers reads it as plain YaRN
    written = moved.to_hf(base, target_length=target)
    assert written["rope_type"] == "yarn"
    compare(moved, base, factor, written)
    read = make_scheme("yarn").from_hf(written, original_length=base.original_length, trained_length=target)
    assert (
        read.frequencies(base, target_length=target).fingerprint
        == moved.frequencies(base, target_length=target).fingerprint
    )


def test_the_papers_ramp_is_linear_in_turns(make_base):
    base = make_base(head_dim=128, original_length=4096)
    got = make_scheme("yarn", ramp="turns").frequencies(base, target_length=4096 * 32)
    for unscaled, scaled in zip(base.unscaled().tolist(), got.inv_freq[0].tolist(), strict=True):
        turns = 4096 / (2 * math.pi / unscaled)
        gamma = min(max((turns - 1) / (32 - 1), 0), 1)  # 2309.00071, equation 19
        assert scaled == pytest.approx((1 - gamma) * unscaled / 32 + gamma * unscaled, rel=1e-12)
    # research/rope.md 4: on LLaMA2 at 32x, 24 of 64 pairs differ by more than 5 percent, up to 3.96 times
    code = make_scheme("yarn").frequencies(base, target_length=4096 * 32)
    apart = np.maximum(got.inv_freq / code.inv_freq, code.inv_freq / got.inv_freq)
    assert int((apart > 1.05).sum()) == 24
    assert apart.max().item() == pytest.approx(3.96, abs=5e-3)


def test_the_papers_ramp_is_written_as_divisors(make_base):
    base = make_base(head_dim=128)
    written = make_scheme("yarn", ramp="turns").to_hf(base, target_length=65536)
    assert written["rope_type"] == "longrope"
    assert written["attention_factor"] == pytest.approx(0.1 * math.log(8) + 1)
