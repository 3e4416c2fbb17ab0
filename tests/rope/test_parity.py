"""Every scheme equals transformers' function where there is one, else the published formula."""

import itertools
import math
from types import SimpleNamespace

import pytest
import torch
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

from ropewalk.rope import make_scheme

GRID = list(itertools.product((64, 128, 256), (1e4, 5e5, 1e6, 1e8), (2048, 4096, 8192, 32768, 131072)))
FACTORS = (1, 2, 4.5, 32, 128, 512)


def theirs(parameters, base, factor):
    """Return transformers' float32 frequencies, as float64, and its attention factor."""
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
    inv_freq, scale = function(config)  # pyright: ignore[reportArgumentType]
    return inv_freq.double(), scale


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
    slack = 1e-5 * ours + torch.where(blended, 4e-6 * unscaled, 0.0)
    assert ((ours - want).abs() <= slack).all(), ((ours - want).abs() / slack).max()
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
        index = torch.arange(head_dim // 2, dtype=torch.float64)
        # lambda_i = s^(2i / (d - 2)), the other way to write the raised base
        want = base.unscaled() / factor ** (2 * index / (head_dim - 2))
        torch.testing.assert_close(got, want, rtol=1e-12, atol=0)


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
    torch.testing.assert_close(got.inv_freq[0], want, rtol=1e-5, atol=0)


def test_yarn_scale_is_the_papers_unless_stated(make_base):
    base = make_base()
    assert make_scheme("yarn").frequencies(base, target_length=8192 * 16).attention_scale == pytest.approx(
        0.1 * math.log(16) + 1
    )
    assert (
        make_scheme("yarn", attention_scale=1.5).frequencies(base, target_length=8192).attention_scale == 1.5
    )
