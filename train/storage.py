"""Folders that are complete or absent, and tensors streamed into safetensors shards."""

import contextlib
import errno
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from .errors import TrainError
from .mesh import Mesh

FORMAT = 1
SHARD_BYTES = 5 * 2**30


@contextmanager
def atomic_folder(folder: Path, mesh: Mesh) -> Iterator[Path]:
    """Let all ranks write into a hidden sibling of `folder` and rename it when every rank is done."""
    writing = folder.parent / f".writing-{folder.name}"
    if mesh.is_main:
        shutil.rmtree(writing, ignore_errors=True)
        writing.mkdir(parents=True)
    mesh.barrier()
    try:
        yield writing
    except Exception as error:
        shutil.rmtree(writing, ignore_errors=True)
        if is_disk_full(error):
            raise disk_full(folder) from error
        raise
    mesh.barrier()
    if mesh.is_main:
        shutil.rmtree(folder, ignore_errors=True)
        writing.rename(folder)
    mesh.barrier()


def is_disk_full(error: Exception) -> bool:
    """Tell a full disk, of which safetensors only speaks in words."""
    return getattr(error, "errno", None) == errno.ENOSPC or "No space left" in str(error)


def disk_full(folder: Path) -> TrainError:
    free = shutil.disk_usage(folder.parent).free / 2**30
    return TrainError(
        f"{folder}: the disk must hold the whole folder, got {free:.2f} GiB free; nothing was left "
        "half-written, free space and run the same command again"
    )


def write_bytes(path: Path, data: bytes) -> None:
    """Replace a file in one step, on disk before it gets its name: a reader sees the old one or the new.

    Its folder is made where there is none.
    """
    writing = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with writing.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        writing.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            writing.unlink()
        raise TrainError(
            f"{path}: must be writable, got {error.strerror}; free space or choose another place"
        ) from error


def write_text(path: Path, text: str) -> None:
    write_bytes(path, text.encode())


def write_json(path: Path, value: dict[str, Any]) -> None:
    write_text(path, json.dumps(value, indent=2) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """Read a file of ours; a format this version does not know is refused by name."""
    value = json.loads(path.read_text(encoding="utf-8"))
    if value.get("format") != FORMAT:
        raise TrainError(
            f"{path}: format must be {FORMAT}, got {value.get('format')!r}; "
            "read it with the ropewalk that wrote it"
        )
    return value


class ShardWriter:
    """Collect named tensors and write a safetensors file whenever `limit` bytes have come together."""

    def __init__(self, folder: Path, stem: str, *, limit: int = SHARD_BYTES) -> None:
        self.folder, self.stem, self.limit = folder, stem, limit
        self.held: dict[str, Tensor] = {}
        self.bytes = self.shards = 0

    def add(self, name: str, tensor: Tensor) -> None:
        size = tensor.numel() * tensor.element_size()
        if self.held and self.bytes + size > self.limit:
            self.flush()
        self.held[name] = tensor.contiguous()
        self.bytes += size

    def flush(self) -> None:
        if not self.held:
            return
        save_file(
            self.held, self.folder / f"{self.stem}-{self.shards:03d}.safetensors", metadata={"format": "pt"}
        )
        self.held, self.bytes, self.shards = {}, 0, self.shards + 1


def shard_index(folder: Path) -> dict[str, Path]:
    """Map every tensor name in a folder's safetensors files to its file."""
    index = {}
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, "pt") as file:
            index.update(dict.fromkeys(file.keys(), path))
    return index


def name_as_hugging_face(folder: Path) -> None:
    """Rename the weight shards to `model.safetensors`, or `model-00001-of-0000N` with an index."""
    shards = sorted(folder.glob("*.safetensors"))
    if len(shards) == 1:
        shards[0].rename(folder / "model.safetensors")
        return
    total = 0
    weight_map = {}
    for number, shard in enumerate(shards, 1):
        name = f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        with safe_open(shard, "pt") as file:
            weight_map.update(dict.fromkeys(file.keys(), name))
        total += shard.stat().st_size
        shard.rename(folder / name)
    index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(weight_map.items()))}
    write_text(folder / "model.safetensors.index.json", json.dumps(index, indent=2) + "\n")
