"""Each shipped mix, laid under a small recipe over small corpora, is prepared as it was asked."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from ropewalk.data import Plan, load_encoder, open_plan, prepare
from ropewalk.data.mixing.mixture import budgets
from ropewalk.recipes.language.catalogue import LIBRARY
from ropewalk.recipes.language.compose import compose, load
from ropewalk.recipes.language.schema import Recipe, stages

TOKENIZER = LIBRARY / "assets/tiny-base"
WORDS = ["rope", "lane", "yarn", "hemp", "strand", "twist", "walk", "tar"]
LONG, SHORT = (
    ["repositories", "books"],
    ["fineweb-edu", "fineweb", "stackexchange", "wikipedia", "tulu-v2", "arxiv", "openwebmath", "textbooks"],
)


def recipe(folder: Path, mix: str, **values: Any) -> Recipe:
    """Write a recipe over a mix, and load it with its corpora in `folder`."""
    train = {
        "batch_tokens": 1000,
        "learning_rate": 1e-3,
        "schedule": {"kind": "constant"},
        "checkpoint_every": 9,
    }
    whole: dict[str, Any] = {
        "base": ["models/tiny.yaml", mix],
        "run_dir": "runs/mix",
        "model": {"tokenizer": "${assets}/tiny-base"},
        "rope": {"kind": "default"},
        **values,
        "train": train | values.get("train", {}),
    }
    (folder / "mix.yaml").write_text(yaml.safe_dump(whole), "utf-8")
    return load(folder / "mix.yaml", [f"corpora={folder}"])


def write(folder: Path, documents: Mapping[str, list[int]]) -> None:
    """Write JSON lines below `folder`, of so many words each."""
    rng = np.random.default_rng(0)
    for name, lengths in documents.items():
        (folder / name).mkdir(parents=True)
        lines = [json.dumps({"text": " ".join(rng.choice(WORDS, n))}) for n in lengths]
        (folder / name / "part.jsonl").write_text("\n".join(lines) + "\n", "utf-8")


def prepared(stage: Recipe, store: Path) -> tuple[dict[str, Any], Plan]:
    """Prepare a stage; give its report and plan, every source's tokens as its weight says."""
    tokens = stage.train.steps * stage.train.batch_tokens
    length = stage.target_length
    report = prepare(stage.data, tokenizer_path=TOKENIZER, length=length, folder=store, tokens=tokens).json()
    weights = [source.weight or 0 for source in stage.data.sources.values()]
    achieved = [told["achieved"]["tokens"] for told in report["sources"].values()]
    assert achieved == budgets(weights, tokens)
    return report, open_plan(report["folder"])


def test_fu(tmp_path: Path):
    """The published shares, 70% in long documents wherever there are fewer, and no mask."""
    base = compose(LIBRARY / "mixes/fu-per-source.yaml")["data"]["sources"]
    assert sum(source["weight"] for source in base.values()) == pytest.approx(1, abs=1e-12)
    assert {source["long"]["at_least"] for source in base.values()} == {4096}
    short = [20] * 60 + [200] * 12
    write(tmp_path / "slimpajama", dict.fromkeys(base, short) | {"books": [20] * 5 + [200] * 20})
    sources = {name: {"long": {"at_least": 200}} for name in base}
    data = {"holdout": 0, "sources": sources}
    made = recipe(tmp_path, "mixes/fu-per-source.yaml", target_length=256, train={"steps": 5}, data=data)
    report, plan = prepared(made, tmp_path / "store")
    for name, told in report["sources"].items():
        share, tokens = told["achieved"]["long_share"], told["achieved"]["tokens"]
        assert share > 0.9 if name == "books" else share == pytest.approx(0.7, abs=0.51 / tokens)
    assert report["padding"] < 256
    assert sum(plan.groups(i) == [(0, 256)] for i in range(len(plan))) >= len(plan) - 1


def test_prolong(tmp_path: Path):
    """One document a pack in the long part; two stages over one corpus, the second's pools disjoint."""
    write(tmp_path, dict.fromkeys(LONG, [700] * 12 + [150] * 24) | dict.fromkeys(SHORT, [20] * 60))
    cut = {"document_length": 64}
    pieces = {"document_length": 64, "max_tokens": 511}
    second = {name: {"document_length": 512} for name in LONG} | {f"{name}-64k": pieces for name in LONG}
    made = recipe(
        tmp_path,
        "mixes/prolong-64k.yaml",
        data={"holdout": 0, "sources": dict.fromkeys(LONG, cut)},
        stages=[
            {"target_length": 64, "train": {"steps": 5}},
            {
                "base": ["mixes/prolong-512k.yaml"],
                "target_length": 512,
                "train": {"steps": 10},
                "data": {"sources": second},
            },
        ],
    )
    one, two = stages(made)
    (first, _), (last, plan) = prepared(one, tmp_path / "store"), prepared(two, tmp_path / "store")
    assert first["corpus_fingerprint"] == last["corpus_fingerprint"]
    assert set(last["sources"]) == {*first["sources"], *(f"{name}-64k" for name in LONG)}
    rows: dict[bool, set[int]] = {True: set(), False: set()}
    for segment in (segment for index in range(len(plan)) for segment in plan[index].segments):
        document = plan.document(segment.row)
        if document.source in LONG:
            is_long = len(document.tokens) >= 512
            rows[is_long].add(segment.row)
            assert segment.start % (512 if is_long else 64) == 0
            assert segment.length <= (512 if is_long else 64)
    assert rows[True]
    assert rows[False]


def test_the_published_lengths_and_shares_of_prolong():
    one, two = stages(load("llama3-8b-8k-512k-abf"))
    cut = [
        {
            name: (own.document_length, own.weight)
            for name, own in stage.data.mixed.items()
            if own.document_length
        }
        for stage in (one, two)
    ]
    assert cut[0] == {"repositories": (65536, 0.3), "books": (65536, 0.3)}
    assert cut[1] == {
        "repositories": (524288, 0.15),
        "books": (524288, 0.05),
        "repositories-64k": (65536, 0.15),
        "books-64k": (65536, 0.25),
    }
    assert all(one.data.read[name] == two.data.read[name] for name in SHORT)
    assert [one.data.read[name].weight for name in SHORT] == [0.1, 0.1, 0.04, 0.04, 0.03, 0.03, 0.03, 0.03]


def test_ultralong(tmp_path: Path):
    """Three ranges of lengths, no mask, positions that run on, and the published separator."""
    write(tmp_path, {"pretraining": [20] * 60 + [60] * 30 + [300] * 6})
    sources = {
        "short": {"max_tokens": 100},
        "medium": {"min_tokens": 101, "max_tokens": 300},
        "long": {"min_tokens": 301},
    }
    data = {"holdout": 0, "sources": sources}
    made = recipe(tmp_path, "mixes/ultralong.yaml", target_length=512, train={"steps": 5}, data=data)
    _, plan = prepared(made, tmp_path / "store")
    separator = load_encoder(TOKENIZER, closes="text:<s>").closes
    assert len(separator) > 1
    whole = [plan[index] for index in range(len(plan)) if plan.groups(index) == [(0, 512)]]
    assert len(whole) >= len(plan) - 1
    assert all(pack.positions.tolist() == list(range(512)) for pack in whole)
    document = plan.document(plan[0].segments[0].row).tokens
    assert document[-len(separator) :].tolist() == separator.tolist()
