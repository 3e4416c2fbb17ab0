"""Each bad input is one message that names the place, the value and a cure, and leaves nothing behind."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import ValidationError

from ropewalk.data import (
    DataError,
    DataSpec,
    load_encoder,
    open_documents,
    open_plan,
    prepare,
    preview,
    sampled,
    train_tokenizer,
)
from ropewalk.data.spec import missing_paths

Spec = Callable[..., DataSpec]
FACTS = {"kind": "facts", "text": "code", "weight": 0.5}

SPECS = {
    "weights": ({"code": {"weight": 0.7}}, ("weights", "0.7", "restate")),
    "text": (
        {"code": {"weight": 0.5}, "sources": {"f": FACTS | {"text": "prose"}}},
        ("f.text", "prose", "code"),
    ),
    "order": (
        {"code": {"weight": 0.5}, "sources": {"f": FACTS | {"length": 9, "min_length": 99}}},
        ("min_length", "99", "lower"),
    ),
    "unknown": ({"code": {"wieght": 1}}, ("wieght",)),
    "kind": ({"sources": {"f": {"kind": "mystery", "weight": 0}}}, ("mystery", "repeats")),
    "negative": ({"code": {"weight": -1}}, ("weight", "-1")),
    "holdout": ({"holdout": 1}, ("holdout", "1")),
    "mark": ({"closes": "eoss"}, ("closes", "'eoss'", "text:eoss")),
}


@pytest.mark.parametrize("case", SPECS)
def test_bad_spec(case: str, spec: Spec):
    changes, said = SPECS[case]
    with pytest.raises(ValidationError) as caught:
        spec(**changes)
    assert all(part in str(caught.value) for part in said)


INPUTS = {
    "missing folder": ({"code": {"paths": ["/no/such"]}}, ("code.paths", "/no/such", "check")),
    "empty glob": ({"code": {"paths": ["/no/such/*.py"]}}, ("code.paths", "/no/such/*.py", "check")),
    "missing package": (
        {"code": {"paths": ["python:nosuchpackage"]}},
        ("python:nosuchpackage", "pip install"),
    ),
    "nothing of this suffix": ({"code": {"suffixes": [".zig"]}}, ("data.sources", ".zig", "suffixes")),
    "all held out": ({"holdout": 0.999999}, ("data.sources", "60", "holdout")),
    "not enough tokens": ({"tokens": 10**7}, ("code", "10,000,000", "repeat", "data.tokens: ", "largest")),
    "share out of reach": (
        {"code": {"long": {"at_least": 1000, "share": 0.99}}, "tokens": 30_000},
        ("code.long", "0.99", "reachable"),
    ),
    "no long document": (
        {"code": {"long": {"at_least": 10**6, "share": 0.5}}},
        ("code.long", "1,000,000", "lower at_least"),
    ),
    "too few short ones": (
        {"code": {"long": {"at_least": 40, "share": 0.9}, "min_tokens": 30, "repeat": 0.5}, "tokens": 99_999},
        ("code", "99,999", "repeat"),
    ),
    "facts too short": (
        {"code": {"weight": 0.5}, "sources": {"f": FACTS | {"length": 12}}},
        ("sources.f", "12", "raise"),
    ),
}


@pytest.mark.parametrize("case", INPUTS)
def test_bad_input(case: str, spec: Spec, tokenizer: Path, tmp_path: Path):
    changes, said = INPUTS[case]
    with pytest.raises(DataError) as caught:
        prepare(spec(**changes), tokenizer_path=tokenizer, length=128, folder=tmp_path)
    assert all(part in str(caught.value) for part in said)
    assert not list((tmp_path / "plans").glob("*"))
    assert not list(tmp_path.glob(".partial*"))


def test_infeasible_sources_are_all_named(spec: Spec, text: Path, tokenizer: Path, tmp_path: Path):
    """By a preview too: two have too little text, one has no lines to plant facts between."""
    (tmp_path / "flat.py").write_text("call(first, second) " * 200)
    read = {"kind": "files", "suffixes": [".py"]}
    sources = {
        "second": read | {"paths": [str(text / "d01.py")], "weight": 0.25},
        "flat": read | {"paths": [str(tmp_path / "flat.py")], "weight": 0},
        "facts": FACTS | {"text": "flat", "weight": 0.25},
    }
    several = spec(
        code={"weight": 0.5}, sources=sources, tokens=10**6, near_duplicates=1.0, holdout=0, closes=""
    )
    with pytest.raises(DataError) as caught:
        prepare(several, tokenizer_path=tokenizer, length=128, folder=tmp_path)
    with sampled(several, load_encoder(tokenizer)) as sample, pytest.raises(DataError) as told:
        preview(several, sample, length=128, reach=128, workers=1)
    for said in (str(caught.value), str(told.value)):
        assert all(f"data.sources.{name}" in said for name in ("code", "second", "facts.text"))


@pytest.fixture
def latin(tmp_path: Path, text: Path) -> Path:
    """Give a folder with one file that is not UTF-8 from its fifth byte on."""
    folder = tmp_path / "latin"
    shutil.copytree(text, folder)
    (folder / "bad.py").write_bytes(b"caf\xe9 = 1\n")
    return folder


def test_a_file_that_is_not_utf8(latin: Path, spec: Spec, tokenizer: Path, tmp_path: Path):
    with pytest.raises(DataError, match=r"bad\.py.*0xe9 at 3.*on_error: skip"):
        prepare(
            spec(code={"paths": [str(latin)]}), tokenizer_path=tokenizer, length=64, folder=tmp_path / "s"
        )
    assert not (tmp_path / "s/corpus").exists()
    skipping = spec(code={"paths": [str(latin)], "on_error": "skip"})
    report = prepare(skipping, tokenizer_path=tokenizer, length=64, folder=tmp_path / "s")
    assert report.dropped["not_utf8"] == {"documents": 1, "bytes": 9}


@pytest.fixture
def store(spec: Spec, tokenizer: Path, tmp_path: Path) -> Path:
    prepare(spec(), tokenizer_path=tokenizer, length=128, folder=tmp_path / "store")
    return tmp_path / "store"


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"holdout": 0.1}, "holdout (0.2 there, 0.1 asked)"),
        ({"near_duplicates": 0.9}, "near_duplicates"),
        ({"code": {"exclude": ["d0*"]}}, "inputs.code.files (60 there, 50 asked)"),
    ],
)
def test_another_corpus_is_refused_by_field(
    changes: dict, field: str, store: Path, spec: Spec, tokenizer: Path
):
    with pytest.raises(DataError) as caught:
        prepare(spec(**changes), tokenizer_path=tokenizer, length=128, folder=store)
    assert field in str(caught.value)
    assert "data.store" in str(caught.value)


def test_changed_inputs_are_named(spec: Spec, tokenizer: Path, tmp_path: Path):
    text = tmp_path / "text"
    text.mkdir()
    for name in ("a", "b", "c"):
        (text / f"{name}.py").write_text(f"{name} = 1\n" * 600)
    given = spec(code={"paths": [str(text)]})
    prepare(given, tokenizer_path=tokenizer, length=64, folder=tmp_path / "s")
    (text / "a.py").write_text("a = 1\n" * 601)
    (text / "b.py").rename(text / "d.py")
    with pytest.raises(DataError) as caught:
        prepare(given, tokenizer_path=tokenizer, length=64, folder=tmp_path / "s")
    assert "text/b.py is gone; " in str(caught.value)
    assert "the content of text/a.py; " in str(caught.value)
    assert "text/d.py is new; " in str(caught.value)


def test_a_changed_tokenizer_is_refused(store: Path, spec: Spec, tmp_path: Path):
    train_tokenizer(["something else"], 300, tmp_path / "other")
    with pytest.raises(DataError, match=r"tokenizer \("):
        prepare(spec(), tokenizer_path=tmp_path / "other", length=128, folder=store)


@pytest.mark.parametrize("folder", ["corpus", "plans/*"])
def test_an_unknown_format_is_refused(store: Path, folder: str, spec: Spec):
    (path,) = store.glob(f"{folder}/manifest.json")
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": 7}))
    with pytest.raises(DataError, match=r"format must be 1, got 7.*prepare"):
        open_plan(store)


def test_a_torn_file_is_refused(store: Path):
    path = store / "corpus/heldout.arrow"
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(DataError, match=r"heldout\.arrow.*whole Arrow file.*prepare"):
        open_documents(store)


def test_a_plan_on_another_corpus_is_refused(store: Path):
    path = store / "corpus/manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"fingerprint": "f" * 64}))
    with pytest.raises(DataError, match=r"ffffffffffff.*prepare"):
        open_plan(store)


def test_nothing_prepared(tmp_path: Path):
    for open_it in (open_plan, open_documents):
        with pytest.raises(DataError, match=r"prepared.*run prepare"):
            open_it(tmp_path)


def test_all_paths_that_name_nothing_are_said_at_once(
    spec: Spec, text: Path, tokenizer: Path, tmp_path: Path
):
    (tmp_path / "t.bin").touch()
    sources = {
        "web": {"kind": "jsonl", "paths": ["/no/a", str(text), "/no/*.b", "s3://bucket/c"], "weight": 0},
        "made": {
            "kind": "megatron",
            "paths": [str(tmp_path / "t")],
            "tokenizer": str(tokenizer),
            "weight": 0,
        },
        "packages": {"kind": "files", "paths": ["python:stdlib", "python:none_such"], "weight": 0},
    }
    missing = missing_paths(spec(sources=sources))
    said = [
        ("web.paths", "/no/a"),
        ("web.paths", "/no/*.b"),
        ("made.paths", "/t;"),
        ("packages", "none_such"),
    ]
    assert all(key in line and got in line for line, (key, got) in zip(missing, said, strict=True))
    with pytest.raises(DataError, match=r"/no/a(.|\n)*none_such"):
        prepare(spec(sources=sources), tokenizer_path=tokenizer, length=128, folder=tmp_path)
