"""A folder of ours is complete or absent, whatever happens while it is written."""

import errno
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open

from ropewalk.recipes.show.console import tell
from ropewalk.train import TrainError
from ropewalk.train.mesh import Mesh
from ropewalk.train.progress import read_provenance
from ropewalk.train.shards import ShardWriter, atomic_folder, name_as_hugging_face, shard_index
from ropewalk.train.storage import append_json, read_json, write_bytes, write_json


def test_a_folder_appears_whole(tmp_path: Path) -> None:
    target = tmp_path / "made"
    with atomic_folder(target, Mesh.alone()) as writing:
        (writing / "file").write_text("x")
        assert not target.exists()
    assert (target / "file").read_text() == "x"
    assert [p.name for p in tmp_path.iterdir()] == ["made"]


@pytest.mark.parametrize("error", [RuntimeError("interrupted"), OSError(errno.EIO, "input/output error")])
def test_an_interrupted_folder_never_gets_its_name(tmp_path: Path, error: Exception) -> None:
    with pytest.raises(type(error)):
        half_write(tmp_path / "made", error)
    assert not (tmp_path / "made").exists()
    with atomic_folder(tmp_path / "made", Mesh.alone()):
        pass
    assert not (tmp_path / "made" / "half").exists()


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, "full"), RuntimeError("I/O error: No space left on device")]
)
def test_a_full_disk_is_said_and_leaves_nothing(tmp_path: Path, error: Exception) -> None:
    with (
        pytest.raises(TrainError, match="GiB free") as caught,
        atomic_folder(tmp_path / "made", Mesh.alone()),
    ):
        raise error
    assert "free space" in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def half_write(folder: Path, error: Exception) -> None:
    with atomic_folder(folder, Mesh.alone()) as writing:
        (writing / "half").write_text("x")
        raise error


def test_a_file_is_replaced_whole_and_leaves_nothing_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "deep" / "x.json"
    write_json(path, {"format": 1, "b": 1, "a": 2}, sort_keys=True)
    assert path.read_text() == '{\n  "a": 2,\n  "b": 1,\n  "format": 1\n}\n'

    def full(*_: object) -> None:
        assert read_json(path)["a"] == 2
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(TrainError, match=r"x\.json: must be writable, got No space left .*; free space"):
        write_bytes(path, b"half")
    assert read_json(path)["a"] == 2
    assert [p.name for p in path.parent.iterdir()] == ["x.json"]


def test_unknown_format_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text(json.dumps({"format": 7}))
    with pytest.raises(TrainError, match=r"x\.json: format must be 1, got 7"):
        read_json(tmp_path / "x.json")


@pytest.mark.parametrize(("limit", "files"), [(10**9, ["model.safetensors"]), (500, None)])
def test_shards_hold_every_tensor_once(tmp_path: Path, limit: int, files: list[str] | None) -> None:
    wanted = {f"t{i}": torch.full((10 * i + 1,), float(i)) for i in range(9)}
    writer = ShardWriter(tmp_path, "rank-00000", limit=limit)
    for name, tensor in wanted.items():
        writer.add(name, tensor)
    writer.flush()
    name_as_hugging_face(tmp_path)
    if files:
        assert [p.name for p in tmp_path.iterdir()] == files
    else:
        index = json.loads((tmp_path / "model.safetensors.index.json").read_text())
        assert set(index["weight_map"]) == set(wanted)
        assert all((tmp_path / name).exists() for name in index["weight_map"].values())
    for name, path in shard_index(tmp_path).items():
        with safe_open(path, "pt") as file:
            assert torch.equal(file.get_tensor(name), wanted.pop(name))
    assert not wanted


@pytest.mark.parametrize(
    ("text", "got", "cure"),
    [
        (None, "No such file", "of the run"),
        (b"{", "JSON", "of the run"),
        (b"\xff", "JSON", "of the run"),
        (b"[" * 100_000, "JSON", "of the run"),
        (b"[1]", "[1]", "of the run"),
        (b"{}", "None", "ropewalk that wrote"),
    ],
)
def test_a_file_of_ours_that_is_none(tmp_path: Path, text: bytes | None, got: str, cure: str) -> None:
    if text is not None:
        (tmp_path / "x.json").write_bytes(text)
    with pytest.raises(TrainError) as caught:
        read_json(tmp_path / "x.json")
    assert all(word in str(caught.value) for word in ("x.json", got, cure))


@pytest.mark.parametrize(
    ("about", "missing"),
    [({"format": 1}, "rope"), ({"format": 1, "rope": {}}, "rope.scheme"), ({"format": 1}, "progress")],
)
def test_a_checkpoint_says_all_that_is_needed(tmp_path: Path, about: Any, missing: str) -> None:
    (tmp_path / "ropewalk.json").write_text(json.dumps(about))
    with pytest.raises(TrainError, match=missing):
        read_provenance(tmp_path, "progress")


@pytest.mark.parametrize(
    ("value", "where"),
    [({"a": {"b": [1.0, float("nan")]}}, "nan at a.b[1]"), ({"loss": -float("inf")}, "-inf at loss")],
)
def test_what_is_no_number_is_no_json(tmp_path: Path, value: Any, where: str) -> None:
    for write in (write_json, append_json):
        with pytest.raises(TrainError, match="must be finite") as caught:
            write(tmp_path / "x.json", value)
        assert where in str(caught.value)
    assert not (tmp_path / "x.json").exists()


def test_what_is_no_number_is_not_printed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(TrainError, match=r"stdout: .*nan at \[1\]\.loss"):
        tell([{"loss": 1.0}, {"loss": float("nan")}], lambda *_: None, as_json=True)
    assert capsys.readouterr().out == ""


def test_lines_are_appended(tmp_path: Path) -> None:
    append_json(tmp_path / "x.jsonl", {"loss": None})
    append_json(tmp_path / "x.jsonl", {"loss": 0.1})
    assert (tmp_path / "x.jsonl").read_text() == '{"loss": null}\n{"loss": 0.1}\n'
