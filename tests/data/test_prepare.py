"""Prepare gives the asked mixture exactly, drops what it says it drops, and is whole or absent."""

import json
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from datasets import load_dataset

from ropewalk.data import (
    DataError,
    DataSpec,
    PrepareReport,
    find_plan,
    load_encoder,
    open_documents,
    open_plan,
    prepare,
    read_manifest,
)
from ropewalk.data.corpus.content import Content
from ropewalk.data.corpus.work import plan_work
from ropewalk.data.whole import passing_folder

Spec = Callable[..., DataSpec]
FACTS = {"kind": "facts", "text": "code", "weight": 0.5, "facts": 1}


@pytest.fixture
def prepared(tokenizer: Path, tmp_path: Path) -> Callable[..., PrepareReport]:
    """Prepare a data section into the test's own store."""

    def run(spec: DataSpec, length: int = 128, **fields) -> PrepareReport:
        return prepare(spec, tokenizer_path=tokenizer, length=length, folder=tmp_path / "store", **fields)

    return run


def test_the_mixture_is_the_asked_one_to_the_token(
    spec: Spec, prepared: Callable[..., PrepareReport], text: Path
):
    long = {"weight": 0.75, "long": {"at_least": 900, "share": 0.8}}
    other = {"kind": "repeats", "text": "code", "weight": 0.25}
    report = prepared(spec(code=long, sources={"again": other}, tokens=8000))
    assert report.tokens == 8000
    assert (
        report.sources["code"]["achieved"]["tokens"] == report.sources["code"]["requested"]["tokens"] == 6000
    )
    assert report.sources["code"]["achieved"]["long_share"] == 0.8
    assert report.sources["again"]["achieved"] == {"share": 0.25, "tokens": 2000, "documents": 16}
    assert report.packs * 128 == report.tokens + report.padding


def test_the_report_is_the_plans(spec: Spec, prepared: Callable[..., PrepareReport]):
    report = prepared(spec())
    plan = open_plan(report.folder)
    assert (len(plan), plan.length, plan.fingerprint) == (report.packs, 128, report.fingerprint)
    assert sum(plan.trained_tokens(i) for i in range(len(plan))) == report.trained_tokens
    fields = json.loads(json.dumps(report.json()))
    assert {"tokens", "packs", "sources", "dropped", "fingerprint", "coverage", "corpus_fingerprint"} <= set(
        fields
    )
    assert (
        report.dropped["not_selected"]["tokens"] + report.dropped["trimmed"]["tokens"] + report.tokens
        == (report.corpus["train"]["tokens"])
    )


def test_the_same_command_reuses_and_a_plan_is_found_without_sources(
    spec: Spec, prepared: Callable[..., PrepareReport], tmp_path: Path
):
    first = prepared(spec())
    before = Path(first.folder, "segments.npy").stat().st_mtime_ns
    assert prepared(spec()) == first
    assert Path(first.folder, "segments.npy").stat().st_mtime_ns == before
    gone = spec(code={"paths": ["/nowhere"]})
    assert str(find_plan(gone, length=128, folder=tmp_path / "store")) == first.folder


def test_tokens_may_come_from_the_caller(spec: Spec, prepared: Callable[..., PrepareReport]):
    assert prepared(spec(tokens=None), tokens=1500).tokens == 1500
    with pytest.raises(DataError, match=r"steps x batch_tokens"):
        prepared(spec(tokens=None))


def test_the_store_is_plain_arrow(
    spec: Spec, prepared: Callable[..., PrepareReport], tmp_path: Path, tokenizer: Path
):
    prepared(spec())
    [path] = (tmp_path / "store/corpus/parts").iterdir()
    with pa.memory_map(str(path)) as source:
        table = pa.ipc.open_file(source).read_all()
    assert table.schema.field("tokens").type == pa.large_list(pa.uint32())
    row = table.slice(3, 1).to_pylist()[0]
    encoder = load_encoder(tokenizer)
    content = encoder.decode(row["tokens"][:-1])
    assert row["tokens"][-1] == encoder.padding
    assert row["bytes"] == row["span_stop"] == len(content.encode())
    assert f"value_{int(row['id'][-5:-3])}_0" in content
    loaded = load_dataset("arrow", data_files=str(path), split="train", cache_dir=str(tmp_path / "cache"))
    assert loaded[3]["tokens"] == row["tokens"]


def test_the_split_is_by_content_alone(
    text: Path, tmp_path: Path, spec: Spec, prepared: Callable[..., PrepareReport]
):
    report = prepared(spec(holdout=0.3))
    heldout = {Path(document.id).name for document in open_documents(report.folder)}

    def is_heldout(text: str) -> bool:
        content = Content(keep_lines=False)
        content.feed(text)
        return content.facts().heldout(0.3)

    assert heldout == {path.name for path in text.iterdir() if is_heldout(path.read_text())}


def test_near_duplicates_are_dropped_and_counted(
    text: Path, tmp_path: Path, spec: Spec, prepared: Callable[..., PrepareReport]
):
    copy = tmp_path / "more"
    shutil.copytree(text, copy)
    (copy / "d59.py").write_text((text / "d59.py").read_text() + "and_one_line_more_than_before = 1\n")
    (copy / "new.py").write_text("".join(f"an_entirely_new_line_of_code_{i} = {i}\n" for i in range(9)))
    report = prepared(spec(code={"paths": [str(text), str(copy)]}))
    assert report.dropped["near_duplicate"]["documents"] == 60
    assert sum(split["documents"] for split in report.corpus.values()) == 61


@pytest.mark.parametrize("length", [16, 4096])
def test_any_document_fits_any_length(spec: Spec, prepared: Callable[..., PrepareReport], length: int):
    report = prepared(spec(tokens=9000), length=length)
    plan = open_plan(report.folder)
    assert sum(segment.length for i in range(len(plan)) for segment in plan[i].segments) == 9000


def test_stages_that_read_the_same_share_a_store(spec: Spec, prepared: Callable[..., PrepareReport]):
    one = prepared(spec(), length=64)
    two = prepared(spec(code={"weight": 0.5}, sources={"facts": FACTS}, seed=4), length=256)
    assert one.corpus_fingerprint == two.corpus_fingerprint
    assert open_plan(one.folder).fingerprint != open_plan(two.folder).fingerprint


def test_min_tokens_are_counted(spec: Spec, prepared: Callable[..., PrepareReport]):
    report = prepared(spec(code={"min_tokens": 300}))
    plan = open_plan(report.folder)
    lengths = [len(plan.document(s.row).tokens) for i in range(len(plan)) for s in plan[i].segments]
    assert min(lengths) >= 300
    assert report.dropped["min_tokens"]["documents"] > 0


@pytest.mark.parametrize("room", [2_000, 40_000])
def test_no_room_on_the_disk_leaves_nothing(spec: Spec, tokenizer: Path, tmp_path: Path, room: int):
    """A file-size limit stands in for a full disk: both are an OSError from the same write."""
    store = tmp_path / "store"
    held = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, held[1]))
    try:
        with pytest.raises(DataError, match=r"free some space"):
            prepare(spec(tokens=20_000), tokenizer_path=tokenizer, length=128, folder=store)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, held)
    assert not [path for path in store.rglob("*.arrow") if "unfinished" not in str(path)]
    prepare(spec(), tokenizer_path=tokenizer, length=128, folder=store)


KILLED = """
import os, signal, sys
from ropewalk.data import DataSpec, prepare
def stop(phase, done, total):
    if phase.startswith(sys.argv[4]):
        os.kill(os.getpid(), signal.SIGKILL)
spec, tokenizer, folder = DataSpec.model_validate_json(sys.argv[1]), sys.argv[2], sys.argv[3]
prepare(spec, tokenizer_path=tokenizer, length=128, folder=folder, progress=stop)
"""


@pytest.mark.parametrize(
    ("phase", "left"), [("tokenise", {"unfinished"}), pytest.param("mix", {"corpus"}, marks=pytest.mark.slow)]
)
def test_a_killed_run_leaves_no_half_store(
    spec: Spec,
    tokenizer: Path,
    tmp_path: Path,
    prepared: Callable[..., PrepareReport],
    phase: str,
    left: set[str],
):
    store = tmp_path / "store"
    arguments = [spec().model_dump_json(), str(tokenizer), str(store), phase]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    ended = subprocess.run([sys.executable, "-c", KILLED, *arguments], env=environment, check=False)
    assert ended.returncode == -signal.SIGKILL
    assert {path.name.split("-")[0] for path in store.iterdir() if path.name[0] != "."} == left
    prepared(spec())
    assert {path.name for path in store.iterdir()} == {"corpus", "plans"}


def test_library_packages_are_sources(tokenizer: Path, tmp_path: Path):
    source = {"kind": "files", "paths": ["python:json", "python:email", "python:asyncio"], "weight": 1.0}
    spec = DataSpec.model_validate({"tokens": 200_000, "sources": {"code": source}})
    report = prepare(spec, tokenizer_path=tokenizer, length=512, folder=tmp_path)
    names = {Path(document.id).parts[0] for document in open_documents(report.folder, split="train")}
    assert names == {"json", "email", "asyncio"}
    assert np.all(open_documents(report.folder, split="train").sizes() > 0)


LIGHT = """
import sys
from ropewalk.data import DataSpec, PackDataset, check_store, load_encoder, open_plan
from ropewalk.data import peek, prepare, preview, sampled
if __name__ == "__main__":
    spec, tokenizer, folder = DataSpec.model_validate_json(sys.argv[1]), sys.argv[2], sys.argv[3]
    report = prepare(spec, tokenizer_path=tokenizer, length=128, folder=folder, workers=2)
    encoder = load_encoder(tokenizer)
    check_store(folder)
    peek(open_plan(folder), encoder, range(2))
    PackDataset(report.folder)[0]
    with sampled(spec, encoder) as sample:
        preview(spec, sample, length=128, reach=128, workers=1)
heavy = {"torch", "transformers", "datasets", "matplotlib"} & set(sys.modules)
assert not heavy, heavy
"""


def test_none_of_it_imports_torch_or_transformers(spec: Spec, tokenizer: Path, tmp_path: Path):
    """The workers run the script again: so what they import is looked at too."""
    (tmp_path / "light.py").write_text(LIGHT)
    several = spec(part_bytes=9_000, code={"weight": 0.5}, sources={"f": FACTS}, tokens=2000)
    command = [sys.executable, str(tmp_path / "light.py"), several.model_dump_json(), str(tokenizer)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([*command, str(tmp_path / "store")], env=environment, check=True)


def test_what_killed_processes_left_is_removed(spec: Spec, tokenizer: Path, tmp_path: Path):
    """By name of this machine and a process that is none any more; a living one's stays."""
    work = plan_work(spec(), load_encoder(tokenizer), tmp_path)
    places = [tmp_path, work.folder, work.parts, tmp_path / "plans"]
    ended = subprocess.Popen(["true"])
    ended.wait()
    names = [
        f".partial-ropewalk-{socket.gethostname()}-{process}-a.json.part"
        for process in (ended.pid, os.getppid())
    ]
    for place in places:
        place.mkdir(exist_ok=True, parents=True)
        for name in names:
            (place / name).touch()
    (work.parts / names[1]).unlink()  # a corpus takes nobody's along
    (work.folder / names[1]).unlink()
    prepare(spec(), tokenizer_path=tokenizer, length=128, folder=tmp_path)
    left = [path.relative_to(tmp_path) for path in tmp_path.rglob(".partial*")]
    assert sorted(left) == [Path(names[1]), Path("plans", names[1])]


def test_a_sample_that_a_killed_dry_run_left_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    code = "import os, signal; from ropewalk.data.whole import passing_folder\n"
    code += "with passing_folder() as folder: (folder / 'a').touch(); os.kill(os.getpid(), signal.SIGKILL)"
    environment = os.environ | {"TMPDIR": str(tmp_path), "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", code], env=environment, check=False)
    assert len(list(tmp_path.glob(".partial*/a"))) == 1
    with passing_folder() as folder:
        assert list(tmp_path.iterdir()) == [folder]
    assert not list(tmp_path.iterdir())


def test_the_manifest_tells_tokens_by_source_and_length(spec: Spec, tokenizer: Path, tmp_path: Path):
    prepare(spec(), tokenizer_path=tokenizer, length=128, folder=tmp_path)
    manifest = read_manifest(tmp_path / "corpus", "corpus")
    splits = [open_documents(tmp_path, split=split) for split in ("train", "heldout")]
    lengths = np.concatenate([documents.lengths() for documents in splits])
    starts = 2 ** np.floor(np.log2(lengths)).astype(int)
    for key, values in (("lengths", np.ones_like(lengths)), ("length_tokens", lengths)):
        expected = {str(start): int(values[starts == start].sum()) for start in np.unique(starts)}
        assert manifest[key] == {"code": expected}
