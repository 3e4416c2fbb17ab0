"""Schemes as values, the registry, and every bad knob; tests/rope/test_properties.py has the numbers."""

import importlib
import json
import math
import shutil
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from ropewalk import rope
from ropewalk.rope import (
    SCHEMES,
    AttentionScheme,
    Frequencies,
    Installed,
    RopeError,
    Scheme,
    make_scheme,
    validate_scheme,
)
from ropewalk.rope.scheme import scheme

FOLDER = Path(rope.__file__).parent
ALL = sorted(SCHEMES)
CONFIGURED = [
    ("yarn", {"factor": 8, "beta_fast": 4, "ramp": "turns", "critical_pair": 20}),
    ("longrope", {"factors": [1, 2.5], "short_factors": [1.0, 1.0], "first_tokens": 4, "theta": 1e4}),
    ("harpe", {"bases": [1e6, 2e6]}),
    ("harpe", {"bases": "descending", "lowest": 1e5}),
    ("resonance", {"of": {"kind": "longrope", "factors": [1, 2.5]}}),
]


@pytest.mark.parametrize(("name", "knobs"), [(name, {}) for name in ALL] + CONFIGURED)
def test_a_scheme_is_a_value(name, knobs):
    made = make_scheme(name, **knobs)
    assert made == make_scheme(name, **json.loads(json.dumps(made.knobs)))
    assert hash(made) == hash(make_scheme(name, **knobs))
    assert (made == make_scheme(name)) == (not knobs)
    assert made.name == name


def test_fingerprint_covers_every_value(make_base):
    base = make_base()
    unscaled = base.unscaled()[None]
    given = [{}, {"attention_scale": 1.1}, {"attention_scale": 1.2}, {"inv_freq": unscaled.repeat(2, axis=0)}]
    given += [{"inv_freq": unscaled / 2}]
    given += [{"first_tokens": n, "first_inv_freq": unscaled / by} for n, by in ((1, 1), (2, 1), (2, 2))]
    marks = [Frequencies(**{"inv_freq": unscaled} | values).fingerprint for values in given]
    assert len(set(marks)) == len(given)
    assert all(len(mark) == 64 for mark in marks)
    # attention schemes rotate as the default does, all others by numbers of their own
    kept = {name for name in ALL if isinstance(make_scheme(name), AttentionScheme)} | {"default"}
    by_name = {name: make_scheme(name).frequencies(base, target_length=65536).fingerprint for name in ALL}
    assert {name for name in ALL if by_name[name] == marks[0]} == kept
    assert len(set(by_name.values())) == len(set(ALL) - kept) + 1


# scheme, theta, original length: fingerprints in checkpoints, of frequencies and of what is installed
KEPT = [
    ({"kind": "abf"}, 5e5, 512, "8b5e83ae91e0ee23", "047e5c0645195d57"),
    ({"kind": "dynamic", "factor": 4}, 1e4, 8192, "f6e6aa74eb5244bf", "86084e0c2fe6db60"),
    ({"kind": "harpe"}, 1e4, 8192, "a1392c7f688fa421", "428c19a069d82c72"),
    ({"kind": "llama3"}, 5e5, 512, "174a86b6b4ef4985", "118c0493fd616767"),
    ({"kind": "longrope"}, 1e6, 131072, "15257a5be87241d7", "f70987ac0c5aaea3"),
    ({"kind": "ntk"}, 1e4, 8192, "c0a261036e1f4c1b", "f09c684ab4d35157"),
    ({"kind": "resonance"}, 5e5, 512, "0c6ec543d5065347", "14e39c63ec3419e5"),
    ({"kind": "yarn"}, 1e6, 131072, "9c331bee64092936", "bb92257b4df8e3ce"),
]


@pytest.mark.parametrize(("knobs", "theta", "length", "rotates", "installed"), KEPT)
def test_fingerprints_stay(make_base, knobs, theta, length, rotates, installed):
    base, rest = make_base(theta=theta, original_length=length), dict(knobs)
    made = make_scheme(rest.pop("kind"), **rest)
    assert made.frequencies(base, target_length=8 * length).fingerprint.startswith(rotates)
    assert Installed.of({"full_attention": base}, made, 8 * length).fingerprint.startswith(installed)


def test_stretch_is_the_median_over_heads(make_base):
    base = make_base()
    heads = base.unscaled() / np.array([[1.0], [2.0], [16.0]])
    assert Frequencies(inv_freq=heads).stretch(base) == pytest.approx(2)


def test_there_is_one_file_a_scheme():
    files = {path.stem.replace("_", "-") for path in (FOLDER / "schemes").glob("*.py")}
    assert files - {"--init--"} == set(SCHEMES)


NEW_FILE = '''
"""Half the speed."""
from ..scheme import Frequencies, Scheme, scheme


@scheme("half")
class Half(Scheme):
    """Rotate at half speed."""

    def frequencies(self, base, *, target_length, length=None):
        return Frequencies(inv_freq=base.unscaled()[None] / 2)
'''


def test_a_new_scheme_is_one_added_file(tmp_path, monkeypatch, make_base):
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
    ("yran", {}, "rope.kind", "yran", "use one of abf, dca, default, dynamic"),
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
    ("yarn", {"ramp": "rotations"}, "rope.yarn.ramp", "'rotations'", "dimension"),
    ("yarn", {"ramp": "turns", "truncate": False}, "rope.yarn.truncate", "False", "leave it out"),
    ("yarn", {"critical_pair": 0}, "rope.yarn.critical_pair", "0", "derive"),
    ("yarn", {"critical_pair": 30.5}, "rope.yarn.critical_pair", "30.5", "derive"),
    ("llama3", {"low_freq_factor": 4}, "rope.llama3.high_freq_factor", "4", "usual values"),
    ("llama3", {"high_freq_factor": -1}, "rope.llama3.high_freq_factor", "-1", "usual"),
    ("llama3", {"low_freq_factor": 0}, "rope.llama3.low_freq_factor", "0", "usual"),
    ("dynamic", {"factor": 0.5}, "rope.dynamic.factor", "0.5", "derive"),
    ("longrope", {"factors": [1, 0.99]}, "rope.longrope.factors[1]", "0.99", "reciprocal"),
    ("longrope", {"factors": [1, 0.9], "rounded": True}, "rope.longrope.factors[1]", "0.9", "reciprocal"),
    ("longrope", {"factors": [math.inf]}, "rope.longrope.factors[0]", "inf", "factor file"),
    ("longrope", {"factors": [1, "2"]}, "rope.longrope.factors[1]", "'2'", "factor file"),
    ("longrope", {"factors": []}, "rope.longrope.factors", "[]", "factor file"),
    ("longrope", {"factors": 8}, "rope.longrope.factors", "8", "factor file"),
    ("longrope", {"short_factors": [0.5]}, "rope.longrope.short_factors[0]", "0.5", "reciprocal"),
    ("longrope", {"factors": "none.json"}, "none.json", "No such file", "working folder"),
    ("longrope", {"first_tokens": -1}, "rope.longrope.first_tokens", "-1", "usually 0"),
    ("longrope", {"attention_scale": 0}, "rope.longrope.attention_scale", "0", "derive"),
    ("longrope", {"rounded": "yes"}, "rope.longrope.rounded", "'yes'", "usually"),
    ("harpe", {"bases": "uniform"}, "rope.harpe.bases", "'uniform'", "published"),
    ("harpe", {"bases": []}, "rope.harpe.bases", "[]", "published"),
    ("harpe", {"bases": [1e6, 1]}, "rope.harpe.bases[1]", "1", "published"),
    ("harpe", {"lowest": 2e6}, "rope.harpe.lowest", "2000000", "leave it out"),
    ("harpe", {"bases": "ascending", "highest": 1e5}, "rope.harpe.highest", "100000", "1e6"),
    ("resonance", {"of": "yarn"}, "rope.resonance.of", "'yarn'", "mapping"),
    ("resonance", {"of": {"factor": 8}}, "rope.resonance.of", "factor", "mapping"),
    ("resonance", {"of": {"kind": "resonance"}}, "rope.resonance.of", "resonance", "mapping"),
    ("resonance", {"of": {"kind": "self-extend"}}, "rope.resonance.of", "self-extend", "mapping"),
    ("resonance", {"of": {"kind": "yran"}}, "rope.kind", "yran", "use one of"),
    ("resonance", {"of": {"kind": "yarn", "factor": 0}}, "rope.yarn.factor", "0", "derive"),
]


@pytest.mark.parametrize(("name", "knobs", "key", "value", "cure"), BAD)
def test_bad_input(name, knobs, key, value, cure):
    with pytest.raises(RopeError) as caught:
        make_scheme(name, **knobs)
    where, _, rest = str(caught.value).partition(": ")
    assert where == key
    assert value in rest
    assert cure in rest


def test_every_wrong_knob_is_told_at_once_at_its_place():
    knobs = {"factor": 0.5, "truncate": "no", "ramp": "turns"}
    with pytest.raises(ValidationError) as caught:
        validate_scheme("yarn", knobs)
    assert [problem["loc"] for problem in caught.value.errors()] == [("factor",), ("truncate",)]
    with pytest.raises(RopeError, match=r"rope\.yarn\.factor: .*0\.5.*\nrope\.yarn\.truncate: .*'no'"):
        make_scheme("yarn", **knobs)
    with pytest.raises(RopeError, match=r"rope\.kind: .*'yran'"):
        validate_scheme("yran", {})


@pytest.mark.parametrize("make", [SCHEMES["yarn"], partial(replace, SCHEMES["yarn"]())])
@pytest.mark.parametrize("knobs", [{"factor": 0.5}, {"beta_fast": 1}, {"factors": [2.0]}])
def test_no_way_of_making_a_scheme_goes_unchecked(make, knobs):
    with pytest.raises((ValidationError, TypeError), match=next(iter(knobs))):
        make(**knobs)


BAD_BASES = [
    ({"kind": "longrope", "factors": [2.0] * 16}, {}, 16384, "rope.longrope.factors", "16", "this model"),
    (
        {"kind": "longrope", "short_factors": [1.0]},
        {},
        16384,
        "rope.longrope.short_factors",
        "1",
        "this model",
    ),
    ({"kind": "longrope", "theta": 5e5}, {}, 16384, "rope.longrope.theta", "500000", "this model"),
    (
        {"kind": "longrope", "original_length": 4096},
        {},
        16384,
        "rope.longrope.original_length",
        "4096",
        "model",
    ),
    ("longrope", {}, 4096, "rope.longrope", "4096", "default scheme"),
    ("dynamic", {}, 4096, "rope.dynamic", "4096", "default scheme"),
    ("dynamic", {"head_dim": 2}, 16384, "rope.dynamic", "2", "linear"),
    ({"kind": "yarn", "critical_pair": 32}, {}, 16384, "rope.yarn.critical_pair", "32", "theoretical"),
    ({"kind": "harpe", "bases": [1e6, 2e6, 3e6]}, {}, 16384, "rope.harpe.bases", "3", "published"),
    ({"kind": "harpe", "bases": "ascending"}, {"kv_heads": 1}, 16384, "rope.harpe.bases", "1", "abf"),
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
    knobs = dict(name) if isinstance(name, dict) else {"kind": name}
    made = make_scheme(knobs.pop("kind"), **knobs)
    with pytest.raises(RopeError) as caught:
        made.frequencies(make_base(**changes), target_length=target)
    where, _, rest = str(caught.value).partition(": ")
    assert where == key
    assert value in rest
    assert cure in rest
