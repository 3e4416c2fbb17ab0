"""What is trained on what? The numbers of which memory and cost are functions."""

from __future__ import annotations

from dataclasses import dataclass

from ..layout import ROUNDS, Layout
from ..settings import DeviceLayers, TrainSection
from .shape import Shape

BYTES = {"float32": 4, "bfloat16": 2}


@dataclass(frozen=True, kw_only=True)
class Job:
    """Hold a model, a recipe's `train`, the ranks and a pack of one document, which is the worst case."""

    shape: Shape
    train: TrainSection
    layout: Layout
    length: int
    """Tokens of a pack."""
    node: int = 8
    """Ranks on one host."""
    optimizer_on_host: bool = False
    """Count masters, moments and gradients of weights on the host: not built yet, for what it would give."""
    gradient_width: int = 4
    """Bytes of a stored key's gradient; 2: bfloat16, not built either."""

    @property
    def width(self) -> int:
        """Bytes of a weight or activation."""
        return BYTES[self.train.dtype]

    @property
    def ranks(self) -> int:
        """Ranks on a host that is full, or of the world where that is smaller."""
        return min(self.node, self.layout.world)

    @property
    def chunk(self) -> int:
        """Tokens of a pack that are in the model at once, over all its ranks."""
        return min(self.train.chunk or self.length, self.length)

    @property
    def chunks(self) -> int:
        """Chunks of a pack, the last of which may be shorter."""
        return -(-self.length // self.chunk)

    @property
    def earlier(self) -> int:
        """Tokens of all chunks but the last: what goes through the model twice, and is stored."""
        return (self.chunks - 1) * self.chunk

    @property
    def tokens(self) -> int:
        """Tokens of a micro-batch on one rank outside attention."""
        return self.train.micro_batch * self.chunk // self.layout.sequence

    @property
    def packs(self) -> float:
        """Packs of a step that a group of sequence ranks takes."""
        return self.train.batch_tokens / self.length / self.layout.data

    @property
    def kv_width(self) -> int:
        """Elements of a token's keys that one rank holds inside attention."""
        return max(1, self.shape.kv_heads // self.layout.heads) * self.shape.head_dim

    @property
    def host_layers(self) -> int:
        """Layers whose store is on the host."""
        store = self.train.store
        if isinstance(store, DeviceLayers):
            return max(0, self.shape.layers - store.device_layers)
        return self.shape.layers if store == "host" else 0

    def on_host(self, layer: int) -> bool:
        """Tell whether a layer's store is on the host."""
        return layer >= self.shape.layers - self.host_layers

    @property
    def rounds(self) -> int:
        """Blocks that a chunk is stored and gathered in."""
        return ROUNDS if self.layout.gather > 1 else 1

    @property
    def block(self) -> int:
        """Tokens of the block of keys that attention meets at once, over all gather ranks."""
        return -(-self.chunk // self.rounds)

    def seen(self, window: int | None) -> int:
        """Tokens of a chunk that later ones can see, in whole blocks where ranks gather."""
        if window is None or window > self.chunk:
            return self.chunk
        return (
            window - 1 if self.rounds == 1 else min(self.chunk, -(-(window - 1) // self.block) * self.block)
        )
