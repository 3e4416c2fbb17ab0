"""What was read is compared with what is there: after a kill, between tasks, while it is read, and when it is
used again."""

import gzip
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from datasets import Dataset
from world.stores import array, write_mds, write_megatron

from ropewalk.data import DataError, DataSpec
from ropewalk.data.corpus.build import build_corpus, merge_corpus
from ropewalk.data.corpus.work import Task
from ropewalk.data.encoding.encoder import Encoder

Spec = Callable[..., DataSpec]
SMALL = 2_000
"""Bytes of a part."""
Write = Callable[[Path], tuple[dict[str, Any], Path]]
"""Write a source into a folder; give its keys, and a file of its data."""


ROWS = [f"word{n} {i}\n" * i for n in range(20) for i in range(1, 60)]
TOKENS = [np.arange(2, 3 + n % 90) for n in range(900)]


def as_lines(folder: Path) -> tuple[dict[str, Any], Path]:
    (folder / "all.jsonl").write_text("".join(json.dumps({"text": row}) + "\n" for row in ROWS))
    return {"kind": "jsonl"}, folder / "all.jsonl"


def as_one_packed(folder: Path) -> tuple[dict[str, Any], Path]:
    as_lines(folder)[1].rename(folder.parent / "all.jsonl")
    content = gzip.compress((folder.parent / "all.jsonl").read_bytes())
    (folder / "all.jsonl.gz").write_bytes(content)
    return {"kind": "jsonl"}, folder / "all.jsonl.gz"


def as_shards(folder: Path) -> tuple[dict[str, Any], Path]:
    records = [{"a": array(tokens.astype(np.uint32), typed=True)} for tokens in TOKENS]
    write_mds(folder, records, {"a": "ndarray"}, per_shard=20)
    return {"kind": "mds", "tokens": "a", "spans": None}, folder / "shard.00000.mds"


def as_pair(folder: Path) -> tuple[dict[str, Any], Path]:
    write_megatron(folder / "w", [[tokens] for tokens in TOKENS], 4, "<i4")
    return {"kind": "megatron"}, folder / "w.bin"


def as_saved(folder: Path) -> tuple[dict[str, Any], Path]:
    Dataset.from_dict({"text": ROWS}).save_to_disk(folder)
    return {"kind": "dataset"}, folder / "data-00000-of-00001.arrow"


class Killed(Exception):  # noqa: N818
    """What a killed run ends with."""


def killed(spec: DataSpec, encoder: Encoder, corpus: Path, *, after: int) -> None:
    """Begin a corpus, and stop when so many bytes are tokenised."""

    def progress(phase: str, done: int, total: int) -> None:
        if done >= after:
            raise Killed

    with pytest.raises(Killed):
        build_corpus(spec, encoder, corpus, progress=progress)


@pytest.mark.parametrize("write", [as_lines, as_one_packed, as_shards, as_pair, as_saved])
def test_inputs_that_changed_while_a_run_was_killed_are_named(
    write: Write, encoder: Encoder, tokenizer: Path, tmp_path: Path
):
    """Of the same name and size; also where only a file beside the one that gives the name is another."""
    (tmp_path / "text").mkdir()
    fields, data = write(tmp_path / "text")
    source = {"paths": [str(tmp_path / "text")], "weight": 1.0, **fields}
    if fields["kind"] in ("mds", "megatron"):
        source["tokenizer"] = str(tokenizer)
    spec = DataSpec.model_validate({"holdout": 0.2, "part_bytes": SMALL, "sources": {"s": source}})
    killed(spec, encoder, tmp_path / "corpus", after=9_000)
    times, content = data.stat(), bytearray(data.read_bytes())
    content[len(content) // 2] ^= 1
    data.write_bytes(content)
    os.utime(data, ns=(times.st_atime_ns, times.st_mtime_ns))
    with pytest.raises(DataError, match=r"s: .* must be what it was when it was tokenised.*restore"):
        build_corpus(spec, encoder, tmp_path / "corpus")
    assert not (tmp_path / "corpus").exists()


def test_a_finished_unit_is_known_again_by_its_hash(
    spec: Spec, encoder: Encoder, lines: Path, tmp_path: Path
):
    """Where a file was cut, units with its old times go by the hash that the first of them has."""
    killed(spec(), encoder, tmp_path / "corpus", after=30_000)
    done = len(list(tmp_path.glob("unfinished-*/parts/??????.json")))
    assert done > 2
    lines.touch()
    made = [build_corpus(spec(), encoder, tmp_path / name) for name in ("corpus", "alone/corpus")]
    assert len({manifest["fingerprint"] for manifest in made if manifest}) == 1


def test_tasks_may_read_copies(spec: Spec, encoder: Encoder, lines: Path, tmp_path: Path):
    """Machines with their own disks: times differ, the hash that each task takes does not."""
    for number in (1, 2):
        lines.touch()
        build_corpus(spec(), encoder, tmp_path / "corpus", task=Task(number=number, count=2))
    lines.touch()
    merge_corpus(spec(), encoder, tmp_path / "corpus")
    for number in (1, 2):
        build_corpus(spec(), encoder, tmp_path / "b/corpus", task=Task(number=number, count=2))
        lines.write_text(lines.read_text().replace("word7 ", "wood7 "))
    with pytest.raises(DataError, match=r"all\.jsonl must be what it was.*delete .*unfinished"):
        merge_corpus(spec(), encoder, tmp_path / "b/corpus")


def test_a_file_beside_that_changes_while_it_is_read_is_named(
    encoder: Encoder, tokenizer: Path, tmp_path: Path
):
    """After its first unit, which alone looks at all of it; what was read before is not taken for the new."""
    as_pair(tmp_path)
    source = {"kind": "megatron", "paths": [f"{tmp_path}/w"], "tokenizer": str(tokenizer), "weight": 1.0}
    spec = DataSpec.model_validate({"holdout": 0.2, "part_bytes": SMALL, "sources": {"s": source}})
    index, left = tmp_path / "w.idx", iter(range(1000))

    def progress(phase: str, done: int, total: int) -> None:
        if next(left) == 300:
            index.write_bytes(index.read_bytes())

    with pytest.raises(DataError, match=r"s: w\.bin must stay what it was.*wait"):
        build_corpus(spec, encoder, tmp_path / "corpus", progress=progress)
    data = bytearray((tmp_path / "w.bin").read_bytes())
    data[0] ^= 1
    (tmp_path / "w.bin").write_bytes(data)
    with pytest.raises(DataError, match=r"s: w\.bin must be what it was"):
        build_corpus(spec, encoder, tmp_path / "corpus")


@pytest.mark.parametrize("change", ["grows", "replaced"])
def test_a_file_that_changes_while_it_is_read_is_named(
    change: str, spec: Spec, encoder: Encoder, lines: Path, tmp_path: Path
):
    """Nor are those of its documents that were read before taken for the ones that stand there now."""
    whole = lines.read_bytes()

    def progress(phase: str, done: int, total: int) -> None:
        if change == "grows":
            lines.write_bytes(whole + b'{"text": "more", "id": "m"}\n')
        else:
            (tmp_path / "other").write_bytes(whole.replace(b"word7 ", b"wood7 "))
            (tmp_path / "other").replace(lines)

    with pytest.raises(DataError, match=r"all\.jsonl must stay what it was.*wait"):
        build_corpus(spec(part_bytes=10**6), encoder, tmp_path / "corpus", progress=progress)
    if change == "replaced":
        with pytest.raises(DataError, match=r"all\.jsonl must be what it was"):
            build_corpus(spec(part_bytes=10**6), encoder, tmp_path / "corpus")


def test_inputs_that_changed_are_named(spec: Spec, encoder: Encoder, lines: Path, tmp_path: Path):
    build_corpus(spec(), encoder, tmp_path / "corpus")
    lines.touch()
    build_corpus(spec(), encoder, tmp_path / "corpus")
    lines.write_text(lines.read_text().replace("word7 ", "wood7 "))
    with pytest.raises(DataError, match=r"content of all\.jsonl.*restore"):
        build_corpus(spec(), encoder, tmp_path / "corpus")
