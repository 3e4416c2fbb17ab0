"""What holds for every scheme; a new file under rope/schemes/ is tested by existing."""

import dataclasses
import importlib
import json
import math
import shutil
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ropewalk import rope
from ropewalk.rope import (
    SCHEMES,
    Base,
    Frequencies,
    NotExpressible,
    RopeError,
    Scheme,
    config_fields,
    make_scheme,
    read_base,
    rotate,
    rotation_table,
)
from ropewalk.rope.scheme import scheme

FOLDER = Path(rope.__file__).parent
ALL = sorted(SCHEMES)
FACTORED = sorted(
    name for name, cls in SCHEMES.items() if "factor" in {f.name for f in dataclasses.fields(cls)}
)


@st.composite
def bases(draw) -> Base:
    length = draw(st.integers(256, 262_144))
    dim = draw(st.sampled_from((8, 16, 32, 64, 128, 256)))
    return Base(
        head_dim=dim,
        rotary_dim=draw(st.sampled_from((dim, dim // 2))) if dim > 8 else dim,
        theta=draw(st.floats(1e3, 1e9)),
        original_length=length,
        trained_length=length,
        query_heads=8,
        kv_heads=draw(st.sampled_from((1, 2, 8))),
        current=make_scheme("default"),
    )


FACTOR = st.integers(1, 512)
few = settings(max_examples=25, deadline=None)


@pytest.mark.parametrize("name", ALL)
@given(base=bases(), factor=FACTOR)
@few
def test_frequencies_are_positive_and_fall(name, base, factor):
    got = make_scheme(name).frequencies(base, target_length=base.original_length * factor)
    assert got.inv_freq.dtype == torch.float64
    assert got.inv_freq.shape[0] in (1, base.kv_heads)
    assert got.inv_freq.shape[1] == base.rotary_dim // 2
    assert got.inv_freq.isfinite().all()
    assert (got.inv_freq > 0).all()
    assert (got.inv_freq.diff() <= 0).all()
    assert got.attention_scale > 0


@pytest.mark.parametrize("name", ALL)
@given(base=bases())
@few
def test_factor_one_changes_nothing(name, base):
    got = make_scheme(name).frequencies(base, target_length=base.original_length)
    assert torch.equal(got.inv_freq, base.unscaled().expand_as(got.inv_freq))
    assert got.attention_scale == 1
    assert got.stretch(base) == 1


@pytest.mark.parametrize("name", FACTORED)
@given(base=bases(), factor=FACTOR)
@few
def test_a_stated_factor_is_the_derived_one(name, base, factor):
    target = base.original_length * factor
    derived = make_scheme(name).frequencies(base, target_length=target)
    stated = make_scheme(name, factor=float(factor)).frequencies(base, target_length=base.original_length)
    assert derived.fingerprint == stated.fingerprint


@pytest.mark.parametrize("name", ["linear", "ntk"])
@given(base=bases(), factor=FACTOR)
@few
def test_stretch_is_the_factor_where_the_slowest_frequency_is_divided_by_it(name, base, factor):
    got = make_scheme(name).frequencies(base, target_length=base.original_length * factor)
    assert got.stretch(base) == pytest.approx(factor, rel=1e-9)


@pytest.mark.parametrize("name", ALL)
@given(base=bases(), factor=FACTOR)
@few
def test_written_and_read_back_it_is_the_same(name, base, factor):
    made, target = make_scheme(name), base.original_length * factor
    config = {"model_type": "llama", "hidden_size": base.head_dim * 8, "num_attention_heads": 8}
    config |= {"num_key_value_heads": base.kv_heads, "head_dim": base.head_dim}
    try:
        written = config_fields(config, base, made, target_length=target)
    except NotExpressible:
        return
    again = read_base(json.loads(json.dumps(written)))["full_attention"]
    want = made.frequencies(base, target_length=target)
    got = again.current.frequencies(again, target_length=again.trained_length)
    assert got.fingerprint == want.fingerprint
    # the factor is written out, so another target length changes nothing
    assert again.current.frequencies(again, target_length=4 * target).fingerprint == want.fingerprint
    assert again.trained_length == target
    assert again.rotary_dim == base.rotary_dim
    # a scheme written as an ordinary theta leaves a model without a scheme
    assert again.original_length == (
        base.original_length if made.hf_type not in (None, "default") else target
    )


@pytest.mark.parametrize("name", ALL)
@given(base=bases(), factor=FACTOR, shift=st.integers(0, 10**6), seed=st.integers(0, 99))
@few
def test_scores_depend_on_distance_only_and_norms_on_the_scale_only(name, base, factor, shift, seed):
    frequencies = make_scheme(name).frequencies(base, target_length=base.original_length * factor)
    generator = torch.Generator().manual_seed(seed)
    q, k = torch.randn(2, 1, base.kv_heads, 5, base.head_dim, dtype=torch.float64, generator=generator)
    positions = torch.randint(0, 10**6, (1, 5), generator=generator)

    def turned(x, at):
        return rotate(x, rotation_table(at, frequencies, torch.float64), torch.float64)

    near = turned(q, positions) @ turned(k, positions).mT
    far = turned(q, positions + shift) @ turned(k, positions + shift).mT
    torch.testing.assert_close(near, far, rtol=0, atol=1e-6 * frequencies.attention_scale**2)
    norms = turned(q, positions)[..., : base.rotary_dim].norm(dim=-1)
    want = q[..., : base.rotary_dim].norm(dim=-1) * frequencies.attention_scale
    torch.testing.assert_close(norms, want, rtol=1e-12, atol=0)


@pytest.mark.parametrize("name", ALL)
def test_a_scheme_is_a_value(name):
    made = make_scheme(name)
    assert made == make_scheme(name, **made.knobs)
    assert hash(made) == hash(make_scheme(name))
    assert made.name == name


def test_fingerprint_covers_every_value(make_base):
    base = make_base()
    marks = [make_scheme(name).frequencies(base, target_length=65536).fingerprint for name in ALL]
    scales = [Frequencies(inv_freq=base.unscaled()[None], attention_scale=m).fingerprint for m in (1.1, 1.2)]
    twice = Frequencies(inv_freq=base.unscaled().repeat(2, 1)).fingerprint
    assert len({*marks, *scales, twice}) == len(ALL) + 3
    assert all(len(mark) == 64 for mark in marks)


def test_stretch_is_the_median_over_heads(make_base):
    base = make_base()
    heads = base.unscaled() / torch.tensor([[1.0], [2.0], [16.0]], dtype=torch.float64)
    assert Frequencies(inv_freq=heads).stretch(base) == pytest.approx(2)


def test_values_ignore_the_default_device(make_base):
    base = make_base()
    with torch.device("meta"):
        marks = [make_scheme(name).frequencies(base, target_length=65536).fingerprint for name in ALL]
    assert marks == [make_scheme(name).frequencies(base, target_length=65536).fingerprint for name in ALL]


def test_there_is_one_file_a_scheme():
    assert {path.stem for path in (FOLDER / "schemes").glob("*.py")} - {"__init__"} == set(SCHEMES)


NEW_FILE = '''
"""Half the speed."""
from dataclasses import dataclass

from ..scheme import Frequencies, Scheme, scheme


@scheme("half")
@dataclass(frozen=True, kw_only=True)
class Half(Scheme):
    """Rotate at half speed."""

    def frequencies(self, base, *, target_length, length=None):
        return Frequencies(inv_freq=base.unscaled()[None] / 2)
'''


def test_a_new_scheme_is_one_added_file(tmp_path, monkeypatch, kept_registrations, make_base):
    shutil.copytree(FOLDER, tmp_path / "elsewhere" / "rope", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "elsewhere" / "rope" / "schemes" / "half.py").write_text(NEW_FILE)
    monkeypatch.syspath_prepend(tmp_path)
    try:
        copy = importlib.import_module("elsewhere.rope")
        assert sorted(copy.SCHEMES) == sorted([*ALL, "half"])
        made = copy.make_scheme("half")
        assert made.frequencies(make_base(), target_length=8192).stretch(make_base()) == pytest.approx(2)
        with pytest.raises(copy.NotExpressible, match="half"):
            made.to_hf(make_base(), target_length=8192)
    finally:
        for name in [name for name in sys.modules if name.startswith("elsewhere")]:
            del sys.modules[name]


def test_a_second_scheme_of_one_name_is_refused_naming_both():
    with pytest.raises(RopeError, match=r"schemes\.yarn and .*; rename one"):

        @scheme("yarn")
        class Other(Scheme):
            pass

    assert SCHEMES["yarn"].__name__ == "Yarn"


BAD = [
    ("yran", {}, "rope.kind", "yran", "use one of abf, default, linear"),
    ("yarn", {"beta": 1}, "rope.yarn", "beta", "yarn has factor, beta_fast"),
    ("default", {"factor": 2}, "rope.default", "factor", "no knobs"),
    ("ntk", {"theta": 2}, "rope.ntk", "theta", "ntk has factor"),
    ("linear", {"factor": 0.5}, "rope.linear.factor", "0.5", "derive"),
    ("linear", {"factor": "8"}, "rope.linear.factor", "'8'", "derive"),
    ("yarn", {"factor": math.nan}, "rope.yarn.factor", "nan", "derive"),
    ("llama3", {"factor": True}, "rope.llama3.factor", "True", "derive"),
    ("abf", {"theta": 1}, "rope.abf.theta", "1", "derive"),
    ("abf", {"theta": -5e5}, "rope.abf.theta", "-500000", "derive"),
    ("yarn", {"beta_fast": 0}, "rope.yarn.beta_fast", "0", "32"),
    ("yarn", {"beta_fast": 1}, "rope.yarn.beta_fast", "1", "usual values"),
    ("yarn", {"beta_slow": 0}, "rope.yarn.beta_slow", "0", "usual"),
    ("yarn", {"attention_scale": 0}, "rope.yarn.attention_scale", "0", "derive"),
    ("yarn", {"truncate": "no"}, "rope.yarn.truncate", "'no'", "usual"),
    ("llama3", {"low_freq_factor": 4}, "rope.llama3.high_freq_factor", "4", "usual values"),
    ("llama3", {"high_freq_factor": -1}, "rope.llama3.high_freq_factor", "-1", "usual"),
    ("llama3", {"low_freq_factor": 0}, "rope.llama3.low_freq_factor", "0", "usual"),
]


@pytest.mark.parametrize(("name", "knobs", "key", "value", "cure"), BAD)
def test_bad_input(name, knobs, key, value, cure):
    with pytest.raises(RopeError) as caught:
        make_scheme(name, **knobs)
    where, _, rest = str(caught.value).partition(": ")
    assert where == key
    assert value in rest
    assert cure in rest


BAD_BASES = [
    ("linear", {}, 4096, "rope.linear", "4096", "default scheme"),
    ("abf", {}, 4096, "rope.abf", "4096", "default scheme"),
    ("abf", {"original_length": 6}, 4096, "rope.abf", "6", "state rope.theta"),
    ("ntk", {"head_dim": 2}, 16384, "rope.ntk", "2", "linear"),
    ("default", {"rotary_dim": 7}, 8192, "base.rotary_dim", "7", "partial_rotary_factor"),
    ("default", {"rotary_dim": 128}, 8192, "base.rotary_dim", "128", "partial_rotary_factor"),
    ("default", {"theta": 1.0}, 8192, "base.theta", "1.0", "trained with"),
    ("default", {"original_length": 0}, 8192, "base.original_length", "0", "in tokens"),
    ("default", {"trained_length": -1}, 8192, "base.trained_length", "-1", "in tokens"),
    ("default", {"kv_heads": 3}, 8192, "base.kv_heads", "3", "num_key_value_heads"),
]


@pytest.mark.parametrize(("name", "changes", "target", "key", "value", "cure"), BAD_BASES)
def test_bad_base(make_base, name, changes, target, key, value, cure):
    with pytest.raises(RopeError) as caught:
        make_scheme(name).frequencies(make_base(**changes), target_length=target)
    where, _, rest = str(caught.value).partition(": ")
    assert where == key
    assert value in rest
    assert cure in rest
