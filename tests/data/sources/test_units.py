"""Small files share a unit, and going on in one skips whole files and then documents, whatever the kind."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from world.stores import array, check, reader, write_datatrove, write_mds, write_megatron

COUNTS = (3, 1, 4)
"""Documents of three files."""
FILES = [[np.arange(10 * n + d, 10 * n + d + 2 + d) for d in range(count)] for n, count in enumerate(COUNTS)]


def texts(documents: list[np.ndarray]) -> list[str]:
    return [" ".join(map(str, document)) for document in documents]


def jsonl(folder: Path, number: int, documents: list[np.ndarray]) -> None:
    lines = [json.dumps({"text": text}) + "\n" for text in texts(documents)]
    (folder / f"{number}.jsonl").write_text("".join(lines))


def parquet(folder: Path, number: int, documents: list[np.ndarray]) -> None:
    pq.write_table(pa.table({"text": texts(documents)}), folder / f"{number}.parquet", row_group_size=2)


def mds(folder: Path, number: int, documents: list[np.ndarray]) -> None:
    rows = [{"input_ids": array(document.astype(np.uint32), typed=False)} for document in documents]
    write_mds(folder / str(number), rows, {"input_ids": "ndarray:uint32"})


def megatron(folder: Path, number: int, documents: list[np.ndarray]) -> None:
    write_megatron(folder / str(number), [[document] for document in documents], 4, "<i4")


def datatrove(folder: Path, number: int, documents: list[np.ndarray]) -> None:
    write_datatrove(folder / f"{number}.ds", documents, "<u2")


Write = Callable[[Path, int, list[np.ndarray]], None]
KINDS: dict[Write, dict[str, str | None]] = {
    jsonl: {},
    parquet: {},
    mds: {"tokenizer": "t", "spans": None},
    megatron: {"tokenizer": "t"},
    datatrove: {"tokenizer": "t"},
}


@pytest.mark.parametrize("write", KINDS, ids=lambda write: write.__name__)
def test_several_files_share_a_unit(tmp_path: Path, write: Write):
    for number, documents in enumerate(FILES):
        write(tmp_path, number, documents)
    source = reader(write.__name__, tmp_path, **KINDS[write])
    every = [document for documents in FILES for document in documents]
    [unit] = source.units(source.inputs(), 10**9)
    assert len({span.input.name for span in unit.spans}) == len(FILES)
    check(source, texts(every) if "tokenizer" not in KINDS[write] else [d.tolist() for d in every])
    for skip in range(len(every) + 1):
        assert len(list(source.read(unit, skip))) == len(every) - skip
