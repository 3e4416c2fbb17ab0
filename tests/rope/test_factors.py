"""Factor files: our own come back whole, published CSVs are read, all else is refused with a cure."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ropewalk.rope import Factors, RopeError, make_scheme, read_factors, write_factors

# lambda of ft_la2_256k.csv on microsoft/LongRoPE's side branch, at the pairs research wrote down
SPOTS = {0: 1.02, 8: 1.10, 16: 4.81, 20: 12.59, 24: 16.71, 32: 30.53, 40: 43.38, 45: 59.34, 48: 60.95}
SPOTS |= {56: 63.70, 63: 64.77}
FULL: dict[str, Any] = {
    "long": (1.0, 2.0, 8.5),
    "short": (1.0, 1.0, 1.25),
    "first_tokens": 4,
    "attention_scale": 1.1,
    "rotary_dim": 6,
    "original_length": 4096,
    "target_length": 32768,
    "theta": 10000.0,
    "provenance": {"seed": 1, "fitness": {"loss": 2.5}, "corpus": "ab12"},
}


def published(rows=32):
    """Return a CSV in the published layout: a row a layer, floats as float32 prints them."""
    pairs = sorted(SPOTS)
    vector = []
    for pair in range(64):
        below = max(p for p in pairs if p <= pair)
        vector.append(SPOTS[below])
    line = ",".join(f"{value:.16g}" for value in vector)
    return "\n".join([line] * rows)


def test_a_file_of_ours_comes_back_whole(tmp_path):
    factors = Factors(**FULL)
    write_factors(tmp_path / "found.json", factors)
    assert read_factors(tmp_path / "found.json") == factors
    assert json.loads((tmp_path / "found.json").read_text())["format"] == 1
    assert [path.name for path in tmp_path.iterdir()] == ["found.json"]


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    write_factors(tmp_path / "found.json", Factors(**FULL))

    def fail(*paths):
        raise OSError("no space left")

    # the last step, when the new text is written in full elsewhere
    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OSError, match="no space"):
        write_factors(tmp_path / "found.json", replace(Factors(**FULL), theta=5e5))
    assert read_factors(tmp_path / "found.json") == Factors(**FULL)
    assert [path.name for path in tmp_path.iterdir()] == ["found.json"]


def test_what_is_no_json_is_not_written(tmp_path):
    with pytest.raises(ValueError, match="JSON compliant"):
        write_factors(tmp_path / "a.json", replace(Factors(**FULL), provenance={"loss": math.nan}))
    assert not list(tmp_path.iterdir())


def test_a_published_csv_is_one_vector(tmp_path):
    (tmp_path / "ft_la2_256k.csv").write_text(published())
    read = read_factors(tmp_path / "ft_la2_256k.csv")
    assert len(read.long) == 64
    assert {pair: read.long[pair] for pair in SPOTS} == SPOTS
    assert read == Factors(long=read.long, rotary_dim=128)


def test_a_csv_serves_any_model_of_its_width(tmp_path, make_base):
    (tmp_path / "a.csv").write_text(published())
    scheme = make_scheme("longrope", factors=str(tmp_path / "a.csv"))
    base = make_base(head_dim=128, original_length=4096)
    got = scheme.frequencies(base, target_length=262_144)
    assert got.stretch(base) == pytest.approx(64.77)
    assert got.inv_freq[0, 20].item() == pytest.approx(1e4 ** (-40 / 128) / 12.59)


BAD = [
    ("a.txt", "1,2", "must end in", "'a.txt'", "name a factor file"),
    ("a.csv", None, "readable file", "No such file", "working folder"),
    ("a.csv", "", "one vector", "no rows", "keep one"),
    ("a.csv", "1,2\n1,3\n", "one vector", "2 different rows", "keep one"),
    ("a.csv", "1,two\n", "CSV", "two", "factor file"),
    ("a.csv", "1,0.5\n", "long[1]", "0.5", "reciprocal"),
    ("a.csv", "1,nan\n", "long[1]", "nan", "list the numbers"),
    ("a.json", "{", "JSON", "line 1", "factor file"),
    ("a.json", "[1, 2]", "format", "None", "rope search"),
    ("a.json", {"format": 2, "long": [1]}, "format", "2", "update"),
    ("a.json", {"format": 1}, "long", "none", "complete"),
    ("a.json", {"format": 1, "long": [1], "lambda": 2}, "keys", "lambda", "remove"),
    ("a.json", {"format": 1, "long": 3}, "long", "3", "list the numbers"),
    ("a.json", {"format": 1, "long": []}, "long", "[]", "list the numbers"),
    ("a.json", {"format": 1, "long": "12"}, "long", "'12'", "list the numbers"),
    ("a.json", {"format": 1, "long": [1, 2], "short": [1]}, "short", "1", "one model"),
    ("a.json", {"format": 1, "long": [1, 2], "rotary_dim": 8}, "long", "2 for rotary_dim 8", "search again"),
    ("a.json", {"format": 1, "long": [1], "first_tokens": -1}, "first_tokens", "-1", "usually 0"),
    ("a.json", {"format": 1, "long": [1], "first_tokens": 1.5}, "first_tokens", "1.5", "usually 0"),
    ("a.json", {"format": 1, "long": [1], "theta": 0}, "theta", "0", "leave it out"),
    ("a.json", {"format": 1, "long": [1], "attention_scale": -1}, "attention_scale", "-1", "leave it out"),
]


@pytest.mark.parametrize(("name", "content", "key", "value", "cure"), BAD)
def test_bad_input(tmp_path, name, content, key, value, cure):
    path = tmp_path / name
    if content is not None:
        path.write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(RopeError) as caught:
        read_factors(path)
    where, _, rest = str(caught.value).partition(": ")
    assert where == str(path)
    assert key in rest
    assert value in rest
    assert cure in rest


def test_only_our_own_format_is_written(tmp_path):
    with pytest.raises(RopeError, match=r"\.json, got 'a\.csv'; rename"):
        write_factors(tmp_path / "a.csv", Factors(**FULL))
