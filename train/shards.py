"""Folders of tensors: complete or absent, and streamed into safetensors shards and out of them."""

import errno
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from .errors import TrainError
from .mesh import Mesh
from .storage import write_json

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
        # Of a full disk safetensors only speaks in words.
        if getattr(error, "errno", None) == errno.ENOSPC or "No space left" in str(error):
            free = shutil.disk_usage(folder.parent).free / 2**30
            raise TrainError(
                f"{folder}: the disk must hold the whole folder, got {free:.2f} GiB free; nothing was left "
                "half-written, free space and run the same command again"
            ) from error
        raise
    mesh.barrier()
    if mesh.is_main:
        shutil.rmtree(folder, ignore_errors=True)
        writing.rename(folder)
    mesh.barrier()


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
        file = self.folder / f"{self.stem}-{self.shards:03d}.safetensors"
        save_file(self.held, file, metadata={"format": "pt"})
        self.held, self.bytes, self.shards = {}, 0, self.shards + 1


def shard_index(folder: Path) -> dict[str, Path]:
    """Map every tensor name in a folder's safetensors files to its file."""
    index = {}
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, "pt") as file:
            index.update(dict.fromkeys(file.keys(), path))
    return index


def read_tensor(index: Mapping[str, Path], name: str) -> Tensor:
    with safe_open(index[name], "pt") as file:
        return file.get_tensor(name)


def name_as_hugging_face(folder: Path) -> None:
    """Rename the weight shards to `model.safetensors`, or `model-00001-of-0000N` with an index."""
    shards = sorted(folder.glob("*.safetensors"))
    if len(shards) == 1:
        shards[0].rename(folder / "model.safetensors")
        return
    index = shard_index(folder)
    names = {shard: f"model-{i:05d}-of-{len(shards):05d}.safetensors" for i, shard in enumerate(shards, 1)}
    total = sum(shard.stat().st_size for shard in shards)
    for shard, name in names.items():
        shard.rename(folder / name)
    weight_map = {tensor: names[shard] for tensor, shard in sorted(index.items())}
    write_json(
        folder / "model.safetensors.index.json",
        {"metadata": {"total_size": total}, "weight_map": weight_map},
    )
