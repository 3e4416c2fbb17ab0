"""Schemes at one effective scale: the knob is found, or the scheme says that it has none."""

import pytest

from ropewalk.rope import RopeError, at_stretch, make_scheme

KNOBS = {"linear": "factor", "ntk": "factor", "yarn": "factor", "llama3": "factor", "dynamic": "factor"}
KNOBS["abf"] = "theta"
CASES = [(name, stretch) for name in KNOBS for stretch in (8, 512, 5000)]
# at a target of 8 windows dynamic stretches by 8 or more, whatever its factor
CASES += [(name, stretch) for name in KNOBS if name != "dynamic" for stretch in (1, 1.37)]


@pytest.mark.parametrize(("name", "stretch"), CASES)
def test_the_knob_gives_the_stretch(make_base, name, stretch):
    base = make_base(head_dim=128, theta=5e5)
    made = at_stretch(make_scheme(name), base, target_length=65536, stretch=stretch)
    got = made.frequencies(base, target_length=65536).stretch(base)
    assert got == pytest.approx(stretch, rel=1e-9)
    assert made.name == name
    assert made.knobs[KNOBS[name]] is not None


@pytest.mark.parametrize("name", ["linear", "ntk", "yarn", "llama3"])
def test_where_the_stretch_is_the_factor_it_comes_out_round(make_base, name):
    made = at_stretch(make_scheme(name), make_base(), target_length=65536, stretch=8)
    assert made == make_scheme(name, factor=8.0)


def test_by_formula(make_base):
    base = make_base(head_dim=128)
    # theta s^(d / (d - 2)), as NTK-aware has it: 82,685 at s = 8
    abf = at_stretch(make_scheme("abf"), base, target_length=32768, stretch=8)
    assert abf.knobs["theta"] == pytest.approx(82_685, rel=1e-5)
    # s n / L - (s - 1) at n = 4 L
    dynamic = at_stretch(make_scheme("dynamic"), base, target_length=32768, stretch=13)
    assert dynamic.knobs["factor"] == pytest.approx(4)


def test_other_knobs_stay(make_base):
    made = at_stretch(make_scheme("yarn", beta_fast=4), make_base(), target_length=65536, stretch=3)
    assert made == make_scheme("yarn", beta_fast=4, factor=3.0)


def test_resonance_sets_what_it_wraps_and_rounds(make_base):
    base = make_base()
    made = at_stretch(make_scheme("resonance", of={"kind": "ntk"}), base, target_length=65536, stretch=8)
    assert made.knobs == {"of": {"kind": "ntk", "factor": 8.0}}
    # the slowest wavelength is off by at most half a token
    slowest = 8 * 2 * 3.141592653589793 / base.unscaled()[-1].item()
    got = made.frequencies(base, target_length=65536).stretch(base)
    assert got == pytest.approx(8, rel=0.5 / slowest)


NONE = [("default", {}), ("longrope", {}), ("harpe", {}), ("resonance", {"of": {"kind": "harpe"}})]


@pytest.mark.parametrize(("name", "knobs"), NONE)
def test_without_such_a_knob_it_runs_as_published(make_base, name, knobs):
    with pytest.raises(RopeError, match=r"rope\.(.*): must have a knob .*got none; run it as published"):
        at_stretch(make_scheme(name, **knobs), make_base(), target_length=65536, stretch=8)


@pytest.mark.parametrize(
    ("name", "changes", "stretch"),
    [
        # a window of so many turns that no frequency is divided
        ("llama3", {"original_length": 10**7}, 8),
        ("linear", {}, 0.5),
        ("dynamic", {}, 7.5),
    ],
)
def test_a_stretch_out_of_reach_is_refused(make_base, name, changes, stretch):
    with pytest.raises(RopeError) as caught:
        at_stretch(make_scheme(name), make_base(**changes), target_length=65536, stretch=stretch)
    assert str(caught.value).startswith(f"rope.{name}.factor: ")
    assert f"a stretch of {stretch}" in str(caught.value)
    assert "as published" in str(caught.value)
