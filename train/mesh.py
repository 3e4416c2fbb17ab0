"""The process groups of a layout on this rank; the one place that reads torchrun's environment."""

import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist

from .errors import TrainError
from .layout import Layout

Value = TypeVar("Value")

# Steps at millions of tokens last hours (research: ALST steps of 1 to 7 hours); the ten minutes
# that NCCL waits by default would kill a healthy run.
COLLECTIVE_TIMEOUT = timedelta(hours=12)


ALONE = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1"}
"""What DeepSpeed reads of the environment, for a process that torchrun did not start."""

CUBLAS = "CUBLAS_WORKSPACE_CONFIG"
"""Read by cuBLAS when it starts, which may be for an evaluation before any training."""
REPEATABLE = (":4096:8", ":16:8")
"""Its workspaces with which a product is the same again; torch asks for one of them. 32 MiB, 128 KiB."""


@dataclass(frozen=True, kw_only=True)
class Mesh:
    """This rank's place: its layout, its rank, its device and the groups it shares a pack with."""

    layout: Layout
    rank: int = 0
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    heads_group: dist.ProcessGroup | None = None
    """Ranks of the same tokens and other heads; None where this one has all heads."""
    gather_group: dist.ProcessGroup | None = None
    """Ranks of the same heads and other tokens; None where this one has all tokens."""
    sequence_group: dist.ProcessGroup | None = None
    """Ranks of the same pack: one of the two, or both together."""
    made: dict[tuple[int, ...], dist.ProcessGroup | None] = field(
        default_factory=dict, repr=False, compare=False
    )
    """Groups of the world that were created, by their ranks; None: of other ranks."""

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    @property
    def data_rank(self) -> int:
        return self.layout.data_rank(self.rank)

    @classmethod
    def alone(cls) -> "Mesh":
        """Describe a single process without any process group."""
        return cls(layout=Layout(), device=default_device(0))

    @classmethod
    def of_world(cls, *, heads: int = 1, gather: int = 1) -> "Mesh":
        """Cut the initialised world into groups; every rank must call it at the same point."""
        if not dist.is_initialized():
            return cls(layout=Layout(heads=heads, gather=gather), device=default_device(0))
        world = cls(
            layout=Layout(world=dist.get_world_size()),
            rank=dist.get_rank(),
            device=default_device(int(os.environ.get("LOCAL_RANK", 0))),
        )
        return world.arranged(Layout(world=world.layout.world, heads=heads, gather=gather))

    def arranged(self, layout: Layout) -> "Mesh":
        """Cut the same world otherwise; groups that were made once are used again. A collective."""
        packs = map(layout.sequence_ranks, range(layout.data))
        return replace(
            self,
            layout=layout,
            heads_group=self._mine(layout.heads_groups()),
            gather_group=self._mine(layout.gather_groups()),
            sequence_group=self._mine(packs),
        )

    def _mine(self, groups: Iterable[list[int]]) -> dist.ProcessGroup | None:
        """Return the one of these groups that this rank is in; None where it is alone there."""
        mine = None
        for ranks in map(tuple, groups):
            if len(ranks) > 1 and ranks not in self.made:
                group = dist.new_group(list(ranks))  # a collective: each rank creates every group
                self.made[ranks] = group if isinstance(group, dist.ProcessGroup) else None
            if self.rank in ranks:
                mine = self.made.get(ranks)
        return mine

    def sum(self, values: Sequence[float]) -> list[float]:
        """Add numbers over the world in float64."""
        if self.layout.world == 1:
            return [float(v) for v in values]
        total = torch.tensor(values, dtype=torch.float64, device=self.device)
        dist.all_reduce(total)
        return total.tolist()

    def from_main(self, value: Value) -> Value:
        """Return what rank 0 has, whatever the others have; a collective."""
        if self.layout.world == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0, device=self.device)
        return box[0]

    def barrier(self) -> None:
        if self.layout.world > 1:
            dist.barrier()


def default_device(local_rank: int) -> torch.device:
    return torch.device("cuda", local_rank) if torch.cuda.is_available() else torch.device("cpu")


@contextmanager
def in_world() -> Iterator[None]:
    """Join the world for a block and leave it after, unless this process was in one already."""
    inside = dist.is_initialized()
    join_world()
    try:
        yield
    finally:
        if not inside:
            leave_world()


def join_world() -> None:
    """Join the process group that torchrun describes; without torchrun, a world of this process alone."""
    if torch.cuda.is_available():
        os.environ.setdefault(CUBLAS, REPEATABLE[0])
    if dist.is_initialized():
        return
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", 0)))
    backend = "nccl" if torch.cuda.is_available() else "gloo"
    if "RANK" in os.environ:
        dist.init_process_group(backend, timeout=COLLECTIVE_TIMEOUT)
        return
    os.environ.update(ALONE)
    store = dist.HashStore()  # pyright: ignore[reportPrivateImportUsage]
    dist.init_process_group(backend, store=store, rank=0, world_size=1, timeout=COLLECTIVE_TIMEOUT)


def leave_world() -> None:
    """Leave the process group and forget the environment that a world of one was given."""
    if dist.is_initialized():
        dist.destroy_process_group()
    if groups := sys.modules.get("deepspeed.utils.groups"):
        groups.__dict__["_WORLD_GROUP"] = None  # which DeepSpeed would give to the next world too
    if all(os.environ.get(name) == value for name, value in ALONE.items()):
        for name in ALONE:
            del os.environ[name]


def use_deterministic_kernels(wanted: bool, device: torch.device) -> None:
    """Take only kernels that give the same numbers again, or any."""
    workspace = os.environ.get(CUBLAS)
    if wanted and device.type == "cuda" and workspace not in REPEATABLE:
        raise TrainError(
            f"{CUBLAS}: must be one of {', '.join(REPEATABLE)} with train.deterministic, got {workspace}; "
            "remove it from the environment, or set train.deterministic=false"
        )
    torch.use_deterministic_algorithms(wanted)
