"""Where do keys, values and their gradients wait while other chunks of the pack are in the model?

By layer and block of tokens, on the device or in pinned host memory; of every block this rank keeps its own
part. The next block is fetched while the present one is worked on. On a CPU the same code runs with plain
tensors, and the bytes that moved are counted on either.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..layout import Span

SLAB = 2**28
"""Bytes of host memory that are pinned at once: a power of two, to which torch would round them up."""
At = tuple[int, Span]
"""A layer and the tokens of a block."""


@dataclass
class Moved:
    """Bytes written to and read from the store since it was made."""

    written: int = 0
    read: int = 0


class Store:
    """Keep the keys and values of earlier blocks, and what later tokens send back to them."""

    def __init__(self, on_host: Callable[[int], bool], device: torch.device) -> None:
        """Keep the layers of which `on_host` is true in host memory, the others on `device`."""
        self.on_host, self.device = on_host, device
        self.host, self.moved = Host(device), Moved()
        self.keys: dict[At, Tensor] = {}
        self.gradients: dict[At, Tensor] = {}
        self.kept: dict[At, tuple[Tensor, ...]] = {}

    @property
    def bytes(self) -> int:
        """Bytes that are kept now."""
        kept = [one for whole in self.kept.values() for one in whole]
        return sum(x.nbytes for x in (*self.keys.values(), *self.gradients.values(), *kept))

    def clear(self) -> None:
        """Forget a pack; host memory stays pinned for the next."""
        for tensors in (self.keys, self.gradients, self.kept):
            tensors.clear()
        self.host.free()

    def write(self, layer: int, span: Span, keys: Tensor) -> None:
        """Keep keys and values [2, B, H, n, D] of this rank's part of a block."""
        self.keys[layer, span] = self._put(layer, keys)

    def read(self, layer: int, spans: Sequence[Span]) -> Iterator[Tensor]:
        """Yield the blocks in turn, each on the device while the one after it is on its way."""
        yield from self._ahead([(layer, self.keys[layer, span]) for span in spans])

    def add(self, layer: int, span: Span, gradient: Tensor) -> None:
        """Add a gradient [2, B, H, n, D] to those of a block, in at least float32."""
        known = self.gradients.get((layer, span))
        if known is None:
            self.gradients[layer, span] = self._put(layer, gradient)
        elif self.on_host(layer):
            self.host.add(known, gradient)
            self.moved.read += gradient.nbytes
            self.moved.written += gradient.nbytes
        else:
            known += gradient

    def take(self, layer: int, span: Span) -> Tensor | None:
        """Return, and forget, the gradient that later tokens sent to a block."""
        known = self.gradients.pop((layer, span), None)
        return None if known is None else next(self._ahead([(layer, known)]))

    def keep(self, layer: int, span: Span, *results: Tensor) -> None:
        """Keep what attention gave for a chunk."""
        self.kept[layer, span] = tuple(self._put(layer, result) for result in results)

    def recall(self, layer: int, span: Span) -> tuple[Tensor, ...] | None:
        """Return, and forget, what attention gave for a chunk."""
        known = self.kept.pop((layer, span), None)
        return None if known is None else tuple(self._ahead([(layer, one) for one in known]))

    def _put(self, layer: int, tensor: Tensor) -> Tensor:
        self.moved.written += tensor.nbytes
        return self.host.send(tensor) if self.on_host(layer) else tensor.detach().clone()

    def _ahead(self, wanted: Sequence[tuple[int, Tensor]]) -> Iterator[Tensor]:
        coming: list[Callable[[], Tensor]] = []
        for number in range(len(wanted) + 1):
            if number < len(wanted):
                layer, tensor = wanted[number]
                self.moved.read += tensor.nbytes
                coming.append(self.host.fetch(tensor) if self.on_host(layer) else lambda one=tensor: one)
            if number:
                yield coming.pop(0)()


@dataclass
class Host:
    """Pinned host memory in slabs, copied to and from on a stream of its own."""

    device: torch.device
    slabs: list[Tensor] = field(default_factory=list)
    used: dict[int, int] = field(default_factory=lambda: defaultdict(int))

    def __post_init__(self) -> None:
        self.stream = torch.cuda.Stream(self.device) if self.device.type == "cuda" else None

    def free(self) -> None:
        """Let all slabs be written anew."""
        if self.stream is not None:
            self.stream.synchronize()
        self.used.clear()

    def send(self, tensor: Tensor) -> Tensor:
        """Copy a device tensor into host memory."""
        place = self._room(tensor)
        with self._after_the_work():
            place.copy_(tensor, non_blocking=True)
        self._outlives(tensor)
        return place

    def fetch(self, place: Tensor) -> Callable[[], Tensor]:
        """Begin to copy to the device; the result waits until it is there."""
        if self.stream is None:
            return place.clone
        with self._after_the_work():
            tensor = place.to(self.device, non_blocking=True)
            arrived = self.stream.record_event()

        def ready() -> Tensor:
            here = torch.cuda.current_stream(self.device)
            here.wait_event(arrived)
            tensor.record_stream(here)
            return tensor

        return ready

    def add(self, place: Tensor, tensor: Tensor) -> None:
        """Add a device tensor to one in host memory; the sum is made on the device."""
        with self._after_the_work():
            place.copy_(place.to(self.device, non_blocking=True) + tensor, non_blocking=True)
        self._outlives(tensor)

    def _after_the_work(self) -> torch.cuda.StreamContext:
        """Copy on the stream, after what the device was told so far; on a CPU, at once."""
        if self.stream is not None:
            self.stream.wait_stream(torch.cuda.current_stream(self.device))
        return torch.cuda.stream(self.stream)

    def _outlives(self, tensor: Tensor) -> None:
        if self.stream is not None:
            tensor.record_stream(self.stream)

    def _room(self, tensor: Tensor) -> Tensor:
        """Find room for a tensor in a slab, aligned to 256 bytes."""
        size = -(-tensor.nbytes // 256) * 256
        for number, slab in enumerate(self.slabs):
            if self.used[number] + size <= len(slab):
                break
        else:
            number, whole = len(self.slabs), max(SLAB if self.stream else size, 1 << (size - 1).bit_length())
            self.slabs.append(torch.empty(whole, dtype=torch.uint8, pin_memory=self.stream is not None))
        start = self.used[number]
        self.used[number] = start + size
        return self.slabs[number][start : start + tensor.nbytes].view(tensor.dtype).view(tensor.shape)
