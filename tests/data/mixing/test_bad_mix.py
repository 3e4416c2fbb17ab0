"""A mix that cannot be, or a setting that would do nothing, is refused with place, value and cure."""

from typing import Any

import pytest
from pydantic import ValidationError
from world.small_corpus import SmallCorpus, chosen_of, data_spec

from ropewalk.data import DataError

ONE = {"weight": 1}
LONG = {"at_least": 10, "share": 0.5}
POOL = {"kind": "pool", "of": "a"}
SCORE = {"kind": "gzip_ratio", "keep": [0.2, 0.8], "by": "quantile"}

SECTIONS: dict[str, tuple[dict[str, Any], dict[str, Any], tuple[str, ...]]] = {
    "sum": ({"a": {"weight": 0.7}}, {}, ("weights", "0.7", "restate")),
    "no weight": ({"a": {}}, {}, ("sources.a.weight", "none", "set it")),
    "weight and global": ({"a": ONE}, {"mode": "global"}, ("sources.a.weight", "1", "as they are")),
    "long and global": ({"a": {"long": LONG}}, {"mode": "global"}, ("a.long", "0.5", "data.long")),
    "repeat and global": ({"a": {"repeat": 2}}, {"mode": "global"}, ("a.repeat", "2", "data.repeat")),
    "no room for documents": (
        {"a": {}, "f": {"kind": "facts", "text": "a", "weight": 1}},
        {"mode": "global"},
        ("weights", "got 1", "lower"),
    ),
    "pooled long": ({"a": ONE}, {"long": LONG}, ("long", "per-source", "sources.NAME.long")),
    "pooled repeat": ({"a": ONE}, {"repeat": 2}, ("repeat", "got 2", "sources.NAME.repeat")),
    "repeat-long without repeat": (
        {"a": ONE | {"long": LONG | {"by": "repeat-long"}}},
        {},
        ("long.by", "repeat 1", "raise repeat"),
    ),
    "pooled repeat-long without repeat": (
        {"a": {}},
        {"mode": "global", "long": LONG | {"by": "repeat-long"}},
        ("long.by", "repeat 1", "raise repeat"),
    ),
    "lengths crossed": (
        {"a": ONE | {"min_tokens": 20, "max_tokens": 10}},
        {},
        ("max_tokens", "min_tokens 20", "got 10", "raise"),
    ),
    "no whole piece": (
        {"a": ONE | {"document_length": 20, "max_tokens": 10}},
        {},
        ("max_tokens", "document_length 20", "got 10", "raise"),
    ),
    "long of one length": (
        {"a": ONE | {"document_length": 20, "long": LONG}},
        {},
        ("long", "document_length 20", "pools"),
    ),
    "pool of nothing": (
        {"a": {"weight": 0.5}, "b": POOL | {"of": "x", "weight": 0.5}},
        {},
        ("sources.b.of", "'x'", "a"),
    ),
    "pool of a pool": (
        {"a": {"weight": 0}, "b": POOL | {"weight": 0.5, "max_tokens": 9}}
        | {"c": {"kind": "pool", "of": "b", "weight": 0.5, "min_tokens": 10}},
        {},
        ("sources.c.of", "'b'", "there are: a"),
    ),
    "pools overlap": (
        {"a": {"weight": 0.5, "document_length": 512}, "b": POOL | {"weight": 0.5, "document_length": 64}},
        {},
        ("sources.a, sources.b", "512", "max_tokens"),
    ),
    "pools overlap by one": (
        {"a": {"weight": 0.5, "max_tokens": 64}, "b": POOL | {"weight": 0.5, "min_tokens": 64}},
        {},
        ("sources.a, sources.b", "64", "max_tokens"),
    ),
    "skip_chunks": ({"a": ONE | {"skip_chunks": 3}}, {}, ("skip_chunks", "3", "remove")),
    "no such transform": (
        {"a": ONE | {"transform": {"kind": "shred"}}},
        {},
        ("transform", "shred", "interleave"),
    ),
    "no such knob": (
        {"a": ONE | {"transform": {"kind": "interleave", "parts": 3}}},
        {},
        ("interleave", "parts", "chunks"),
    ),
    "knob too small": (
        {"a": ONE | {"transform": {"kind": "interleave", "chunks": 1}}},
        {},
        ("transform.chunks", "input_value=1", "greater"),
    ),
    "knob of another type": (
        {"a": ONE | {"transform": {"kind": "interleave", "documents": "few"}}},
        {},
        ("transform.documents", "'few'", "integer"),
    ),
    "no such scorer": ({"a": ONE | {"score": SCORE | {"kind": "vibes"}}}, {}, ("vibes", "gzip_ratio")),
    "level": ({"a": ONE | {"score": SCORE | {"level": 10}}}, {}, ("score.level", "input_value=10", "less")),
    "band upside down": ({"a": ONE | {"score": SCORE | {"keep": [0.8, 0.2]}}}, {}, ("keep", "0.8", "swap")),
    "band beyond": ({"a": ONE | {"score": SCORE | {"keep": [0, 2]}}}, {}, ("keep", "2", "by: value")),
    "band of all": ({"a": ONE | {"score": SCORE | {"keep": [0, 1]}}}, {}, ("keep", "1", "narrow")),
    "no band": ({"a": ONE | {"score": {"kind": "gzip_ratio"}}}, {}, ("keep", "missing")),
}


@pytest.mark.parametrize("case", SECTIONS)
def test_bad_section(case: str):
    sources, fields, said = SECTIONS[case]
    with pytest.raises(ValidationError) as caught:
        data_spec(sources, **fields)
    assert not [part for part in said if part not in str(caught.value)]


GOOD: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "pools that meet": (
        {"a": {"weight": 0.5, "max_tokens": 63}, "b": POOL | {"weight": 0.5, "min_tokens": 64}},
        {},
    ),
    "a base without weight": ({"a": {"weight": 0}, "b": POOL | {"weight": 1}}, {}),
    "pooled beside facts": (
        {"a": {}, "f": {"kind": "facts", "text": "a", "weight": 0.3}},
        {"mode": "global", "long": LONG | {"by": "repeat-long"}, "repeat": 2},
    ),
    "all at once": (
        {
            "a": ONE
            | {"score": SCORE, "transform": {"kind": "interleave"}, "positions": "skip", "skip_chunks": 3}
            | {"long": LONG | {"by": "repeat-long"}, "repeat": 1.5, "min_tokens": 5, "max_tokens": 5}
        },
        {},
    ),
}


@pytest.mark.parametrize("case", GOOD)
def test_good_section(case: str):
    sources, fields = GOOD[case]
    spec = data_spec(sources, **fields)
    assert type(spec).model_validate_json(spec.model_dump_json()) == spec


MIXES: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "too much": ({"a": ONE}, ("sources.a", "1,000", "550", "set repeat to 1.82")),
    "too much of a part": (
        {"a": ONE | {"max_tokens": 50}},
        ("sources.a", "1,000", "150", "reachable: 150"),
    ),
    "too much of pieces": ({"a": ONE | {"document_length": 60}}, ("sources.a", "1,000", "240", "lower")),
    "nothing": ({"a": ONE | {"min_tokens": 1000}}, ("sources.a", "got 0", "add text")),
    "pieces longer than a pack": (
        {"a": ONE | {"document_length": 600}},
        ("a.document_length", "500", "600", "data.length"),
    ),
    "no long document": (
        {"a": ONE | {"long": {"at_least": 999, "share": 0.5}, "repeat": 2}},
        ("a.long", "got 0", "no number of raw", "at_least"),
    ),
    "share out of reach": (
        {"a": ONE | {"long": {"at_least": 100, "share": 0.9}, "repeat": 2}},
        ("a.long", "0.9", "share 0.800", "888 tokens", "619 raw", "repeat 2.25"),
    ),
    "long again, short not": (
        {"a": ONE | {"long": {"at_least": 100, "share": 0.8, "by": "repeat-long"}, "repeat": 2}},
        ("a.long", "150", "200", "0.850", "drop-short"),
    ),
}


@pytest.mark.parametrize("case", MIXES)
def test_bad_mix(case: str):
    sources, said = MIXES[case]
    corpus = SmallCorpus({"a": [10] * 15 + [100] * 4})
    with pytest.raises(DataError) as caught:
        chosen_of(data_spec(sources, tokens=1000), corpus, length=500)
    assert not [part for part in said if part not in str(caught.value)], str(caught.value)
