"""What a folder of text is, is found by asking every kind of source."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from world.stores import array, write_datatrove, write_mds, write_megatron

from ropewalk.recipes.jobs.own.text import read_text, source_of
from ropewalk.recipes.language.errors import RecipeError

TEXTS = [f"the rope is laid along a walk of {n} yards\n" * (n + 1) for n in range(40)]
TOKENS = [np.arange(n + 2) for n in range(6)]


def write(kind: str, folder: Path, field: str = "text") -> None:
    if kind == "files":
        for index, text in enumerate(TEXTS):
            (folder / f"{index}.md").write_text(text)
    elif kind == "jsonl":
        (folder / "a.jsonl").write_text("".join(json.dumps({field: text}) + "\n" for text in TEXTS))
    elif kind == "parquet":
        pq.write_table(pa.table({field: TEXTS}), folder / "a.parquet")
    elif kind == "dataset":
        from datasets import Dataset

        Dataset.from_dict({field: TEXTS}).save_to_disk(folder)
    elif kind == "dataset, split train":
        from datasets import Dataset, DatasetDict

        DatasetDict({"train": Dataset.from_dict({field: TEXTS})}).save_to_disk(folder)
    elif kind == "mds":
        spans = array(np.array([[0, 2]], "<u4"), typed=True)
        rows = [{"input_ids": array(ids.astype("<u4"), typed=True), "indices": spans} for ids in TOKENS]
        write_mds(folder, rows, {"input_ids": "ndarray", "indices": "ndarray"})
    elif kind == "megatron":
        write_megatron(folder / "store", [[tokens] for tokens in TOKENS], 8, "<u2")
    elif kind == "datatrove":
        write_datatrove(folder / "a.ds", TOKENS, "<u2")


@pytest.mark.parametrize(
    "kind",
    ["files", "jsonl", "parquet", "dataset", "dataset, split train", "mds", "megatron", "datatrove"],
)
def test_every_kind_is_found(kind: str, made: Path, tmp_path: Path) -> None:
    write(kind, tmp_path)
    source, about = source_of(str(tmp_path), None, made / "model")
    kind, _, split = kind.partition(", split ")
    wanted: dict[str, Any] = {"kind": kind, "paths": [str(tmp_path)]}
    if kind in ("mds", "megatron", "datatrove"):
        wanted["tokenizer"] = str(made / "model")
    assert source == wanted | ({"split": split} if split else {})
    assert kind in about


def test_of_several_kinds_most_bytes_count_and_the_others_are_said(made: Path, tmp_path: Path) -> None:
    write("jsonl", tmp_path)
    (tmp_path / "README.md").write_text("what this is")
    source, about = source_of(str(tmp_path), None, made / "model")
    assert source["kind"] == "jsonl"
    assert "1 inputs of kind files" in about


@pytest.mark.parametrize("kind", ["jsonl", "parquet", "dataset"])
def test_the_text_has_a_field_of_another_name(kind: str, made: Path, tmp_path: Path) -> None:
    write(kind, tmp_path, "content")
    with pytest.raises(RecipeError, match=r"(?=.*--text-field).*content"):
        read_text(str(tmp_path), None, tokenizer=made / "model", holdout=0.1)
    text = read_text(str(tmp_path), "content", tokenizer=made / "model", holdout=0.1)
    assert text.source["text"] == "content"
    assert len(text.train) + len(text.heldout) == len(TEXTS)
    assert text.tokens() == sum(text.train)


def test_documents_that_cannot_be_read_are_skipped_and_counted(made: Path, tmp_path: Path) -> None:
    (tmp_path / "latin.md").write_bytes("café".encode("latin-1"))
    with pytest.raises(RecipeError, match=r"latin\.md: must be UTF-8"):
        read_text(str(tmp_path), None, tokenizer=made / "model", holdout=0.1)
    write("files", tmp_path)
    text = read_text(str(tmp_path), None, tokenizer=made / "model", holdout=0.1)
    assert (text.source["on_error"], text.skipped) == ("skip", {"not_utf8": 1})
    assert text.documents(0) == len(TEXTS)
    (tmp_path / "latin.md").unlink()
    text = read_text(str(tmp_path), None, tokenizer=made / "model", holdout=0.1)
    assert ("on_error" in text.source, text.skipped) == (False, {})
