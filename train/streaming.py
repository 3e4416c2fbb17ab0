"""In which order do the chunks of a pack go through the model? Forward to fill the store, then backwards.

A causal model is trained exactly on a pack of which only `train.chunk` tokens are in it at a time. A first
pass without gradients takes chunk after chunk and leaves each layer's keys and values in the store; a second
takes the chunks in reverse, forward and backward, and what flows back into earlier keys and values waits in
the store for their own chunk's backward (prior art: OOMB, 2602.02108). The last chunk needs no first pass,
nor do chunks whose border no document crosses.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from .attention.grouped import GroupedAttention
from .attention.kernels import Kernel
from .attention.store import Store
from .attention.tiles import Groups
from .layout import Span
from .mesh import Mesh
from .settings import DeviceLayers, TrainSection


@dataclass(frozen=True)
class Visit:
    """One chunk's way through the model."""

    chunk: Span
    earlier: list[Span]
    """Chunks whose keys and values are in the store."""
    first_pass: bool
    """Without gradients, for what later chunks see of it."""


def chunks(length: int, size: int | None) -> list[Span]:
    """Cut a pack; the last chunk may be shorter."""
    size = size or length
    return [(start, min(start + size, length)) for start in range(0, length, size)]


def islands(cut: Sequence[Span], groups: Groups) -> list[list[Span]]:
    """Part chunks where no group of any pack crosses the border between them."""
    ends = [span for own in groups for span in own]
    crossed = {stop for _, stop in cut if any(begin < stop < end for begin, end in ends)}
    found: list[list[Span]] = [[]]
    for chunk in cut:
        found[-1].append(chunk)
        if chunk[1] not in crossed:
            found.append([])
    return found[:-1]


def visits(cut: Sequence[Span], groups: Groups) -> Iterator[Visit]:
    """Order the chunks of packs with these groups, those of all data ranks: they go together, since a rank
    that ran another number of forwards would leave ZeRO's collectives waiting."""
    for island in islands(cut, groups):
        yield from (Visit(chunk, island[:number], True) for number, chunk in enumerate(island[:-1]))
        for number in reversed(range(len(island))):
            yield Visit(island[number], island[:number], False)


@dataclass
class Streaming:
    """Say what all chunks of a run's packs share, and make the attention of each."""

    mesh: Mesh
    kernel: Kernel
    chunk: int | None = None
    """Tokens of a pack that are in the model at once, over all its ranks; None: the whole pack."""
    store: Store | None = None
    keep: bool = False
    """Keep what attention gives until its backward: the first pass in the store, a whole pack's layers as
    they are."""

    @classmethod
    def of(cls, settings: TrainSection, mesh: Mesh, kernel: Kernel) -> Streaming:
        """Make the store that the settings ask for, where packs go through the model in chunks."""
        if settings.chunk is None:
            return cls(mesh, kernel, keep=settings.keep_attention)
        store = Store(on_host(settings), mesh.device)
        return cls(mesh, kernel, settings.chunk, store, settings.keep_attention)

    def visits(self, length: int, groups: Groups) -> list[Visit]:
        """Order the chunks of packs of `length` tokens that go through the model together."""
        return list(visits(chunks(length, self.chunk), groups))

    def spans(self, visit: Visit) -> list[Span]:
        """Return which tokens of a visit this rank holds."""
        return self.mesh.layout.spans(self.mesh.rank, *visit.chunk)

    def attention(self, groups: Groups, visit: Visit) -> GroupedAttention:
        """Return the forward keyword of a visit; a chunk's results are kept until its backward."""
        return GroupedAttention(
            groups=groups,
            kernel=self.kernel,
            mesh=self.mesh,
            chunk=visit.chunk,
            earlier=visit.earlier,
            store=self.store,
            keep=self.keep or (self.store is not None and not visit.first_pass),
        )

    def begin(self) -> None:
        """Forget what a step that broke off left: its gradients would be added to those of this one."""
        if self.store is not None:
            self.store.clear()

    def leave(self, visit: Visit) -> None:
        """Forget the store after a visit that was the last of its island."""
        if self.store is not None and not visit.earlier and not visit.first_pass:
            self.store.clear()


def on_host(settings: TrainSection) -> Callable[[int], bool]:
    """Tell of which layers `train.store` keeps keys and values in host memory."""
    where = settings.store
    first = where.device_layers if isinstance(where, DeviceLayers) else 0 if where == "host" else None
    return lambda layer: first is not None and layer >= first
