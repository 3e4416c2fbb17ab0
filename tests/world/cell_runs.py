"""A model trained as a cell says, and the same by plain torch on one rank.

The plain way knows none of what is tested: whole packs, attention written out, whole logits, autograd in
float64 and torch's AdamW.
"""

import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from world.attention import written_out
from world.cells import LENGTH, STEPS, WINDOWS, Way, model_of

from ropewalk.train import Layout
from ropewalk.train.attention.grouped import GroupedAttention
from ropewalk.train.attention.pairs import Given, Keyed, Pair, sdpa
from ropewalk.train.batch import Batches
from ropewalk.train.engine import (
    accumulate,
    full_gradients,
    gradient_norm,
    make_engine,
    named_parameters,
    parameter_groups,
    planned_visits,
    take_step,
)
from ropewalk.train.loss import TokenLoss, hidden_states
from ropewalk.train.mesh import Mesh, in_world
from ropewalk.train.model import for_training
from ropewalk.train.release import release
from ropewalk.train.state import seed_states
from ropewalk.train.streaming import Streaming, Visit


@dataclass
class Counted:
    """SDPA that counts the tiles it is given; and what the store and its visits came to."""

    forward: int = 0
    backward: int = 0
    wanted: Counter[str] = field(default_factory=Counter)

    def kernel(self) -> Pair:
        return Pair("sdpa", self._forward, self._backward)

    def _forward(self, tiles: Sequence[Keyed], causal: bool, scale: float) -> list[tuple[Tensor, Tensor]]:
        self.forward += len(tiles)
        return sdpa.forward(tiles, causal, scale)

    def _backward(
        self, given: Sequence[Given], tiles: Sequence[Keyed], causal: bool, scale: float
    ) -> list[Keyed]:
        self.backward += len(tiles)
        return sdpa.backward(given, tiles, causal, scale)

    def expect(self, way: Way, streaming: Streaming, visits: Sequence[tuple[Any, Visit]]) -> None:
        """Count what visits must cost: how often each runs attention forward and backward."""
        first = [visit.chunk for _, visit in visits if visit.first_pass]
        for groups, visit in visits:
            reaches = [
                streaming.attention(groups, visit).reach(window)
                for window in WINDOWS.get(way.model, [None, None])
            ]
            tiles = sum(len(one.squares) + sum(len(b.tiles) for b in one.blocks) for one in reaches)
            if visit.first_pass:
                again = 1
            elif streaming.store is None:
                again = 2 if way.checkpointing and not way.keep else 1
            else:
                again = 0 if way.keep and visit.chunk in first else 1
            self.wanted["forward"] += again * tiles
            self.wanted["backward"] += 0 if visit.first_pass else tiles
            self.wanted["first passes"] += visit.first_pass


@dataclass
class Found:
    """What one rank found in a cell."""

    exact_loss: float
    exact: dict[str, Tensor]
    losses: list[float]
    norms: list[float]
    gradients: dict[str, Tensor]
    weights: dict[str, Tensor]
    counted: Counted
    written: int
    """Bytes that went into the store."""
    on_host: int
    """Bytes of host memory that the store took."""
    left: int
    """Bytes in the store at the end."""


def run(way: Way) -> Found:
    """Run a cell on this rank: our modules in float64, and three steps of the engine."""
    mesh = Mesh.of_world(heads=way.heads, gather=way.gather)
    loss, exact = in_float64(way, mesh)
    counted = Counted()
    streaming = Streaming.of(way.settings, mesh, counted.kernel())
    losses, norms, gradients, weights = three_steps(way, streaming, counted)
    store = streaming.store
    return Found(
        loss,
        exact,
        losses,
        norms,
        gradients,
        weights,
        counted=Counted(counted.forward, counted.backward, counted.wanted),
        written=store.moved.written if store else 0,
        on_host=sum(map(len, store.host.slabs)) if store else 0,
        left=store.bytes if store else 0,
    )


def run_here(way: Way) -> list[Found]:
    """Run a cell of one rank in this process."""
    with in_world(), warnings.catch_warnings(action="ignore"):  # of what DeepSpeed calls, as in a pool
        return [run(way)]


def in_float64(way: Way, mesh: Mesh) -> tuple[float, dict[str, Tensor]]:
    """Sum loss and gradients of a step's packs over the world, without the engine."""
    streaming = Streaming.of(way.settings, mesh, sdpa)
    batches = way.batches(mesh.layout)
    model = for_training(model_of(way, torch.float64), gradient_checkpointing=way.checkpointing)
    module = TokenLoss(model, chunk=24)
    total = 0.0
    for packs, visit in planned_visits(batches, 0, streaming):
        batch = batches.read(packs, streaming.spans(visit), mesh.device)
        attend = streaming.attention(batch.groups, visit)
        labels = None if visit.first_pass else batch.labels
        with torch.set_grad_enabled(not visit.first_pass):
            loss = module(batch.tokens, batch.positions, batch.lengths, labels, attend)
        if not visit.first_pass:
            loss.backward()
            total += float(loss.detach())
            streaming.leave(visit)
    found = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
    if mesh.layout.world > 1:
        for grad in found.values():
            dist.all_reduce(grad)
    return mesh.sum([total])[0], found


def three_steps(
    way: Way, streaming: Streaming, counted: Counted
) -> tuple[list[float], list[float], dict[str, Tensor], dict[str, Tensor]]:
    """Return losses and norms of three steps, the gradients of the first and the weights after the last."""
    batches = way.batches(streaming.mesh.layout)
    dtype = {"float32": torch.float32, "bfloat16": torch.bfloat16}[way.dtype]
    model = for_training(model_of(way, dtype), gradient_checkpointing=way.checkpointing)
    engine = make_engine(TokenLoss(model, chunk=24), way.settings, accumulation=batches.accumulation)
    seed_states(engine, 0)
    from deepspeed.utils import safe_get_full_fp32_param  # after its first import

    losses, norms, gradients = [], [], {}
    for step in range(STEPS):
        visits = [(batches.groups(p), visit) for p, visit in planned_visits(batches, step, streaming)]
        counted.expect(way, streaming, visits)
        losses.append(accumulate(engine, batches, step, streaming))
        if step == 0:
            gradients = {name: gradient.clone() for name, gradient in full_gradients(engine)}
        norms.append(gradient_norm(engine, streaming.mesh))
        take_step(engine)
    weights = {
        n: copied(p.data if way.stage == 0 else safe_get_full_fp32_param(p))
        for n, p in named_parameters(engine)
    }
    release(engine)
    return losses, norms, gradients, weights


def copied(tensor: Tensor | None) -> Tensor:
    assert tensor is not None
    return tensor.detach().float().cpu().clone()


@dataclass
class Plain:
    """What plain torch finds: loss sum and gradients of the first step, losses and weights of three."""

    loss: float
    gradients: dict[str, Tensor]
    tokens: int
    losses: list[float]
    norms: list[float]
    weights: dict[str, Tensor]


def plain(way: Way) -> Plain:
    """Train as a cell does, by plain torch; once for all cells of a model and a kind of packs."""
    return _plain(way.model, way.kv_heads, way.packs, way.dtype)


@cache
def _plain(model: str, kv_heads: int, packs: str, dtype: str) -> Plain:
    way = Way(model=model, heads=kv_heads, kv="equal", packs=packs)
    module = model_of(way, torch.bfloat16 if dtype == "bfloat16" else torch.float32)
    exact = model_of(way, torch.float64)
    exact.load_state_dict(module.state_dict())
    settings = way.settings
    groups = parameter_groups(exact, settings)
    optimizer = torch.optim.AdamW(groups, lr=settings.learning_rate, betas=settings.optimizer.betas, eps=1e-4)
    batches = way.batches(Layout())
    losses, norms, first = [], [], {}
    for step in range(STEPS):
        tokens = batches.trained_tokens(step)
        total = sum(whole_pack(exact, batches, pack) for pack in batches.packs(step))
        losses.append(float(total) / tokens)
        if step == 0:
            first = {n: p.grad.clone() for n, p in exact.named_parameters() if p.grad is not None}
        for parameter in exact.parameters():
            assert parameter.grad is not None
            parameter.grad /= tokens
        norms.append(float(nn.utils.clip_grad_norm_(exact.parameters(), settings.optimizer.clip)))
        optimizer.step()
        optimizer.zero_grad()
    weights = {n: p.detach().clone() for n, p in exact.named_parameters()}
    tokens = batches.trained_tokens(0)
    return Plain(losses[0] * tokens, first, tokens, losses, norms, weights)


def whole_pack(model: Any, batches: Batches, pack: int) -> float:
    """Run forward and backward of a whole pack; return its summed loss."""
    batch = batches.read([pack], [(0, LENGTH)], torch.device("cpu"))
    attend = GroupedAttention(groups=batch.groups, kernel=written_out)
    hidden = hidden_states(model, batch.tokens, batch.positions, batch.lengths, attend)
    logits = model.lm_head(hidden).flatten(0, 1)
    loss = cross_entropy(logits, batch.labels.flatten(), ignore_index=-100, reduction="sum")
    loss.backward()
    return float(loss.detach())


def differences(found: dict[str, Tensor], wanted: dict[str, Tensor]) -> Iterator[tuple[float, str]]:
    """Yield each parameter's largest difference, as a part of its largest number."""
    assert found.keys() == wanted.keys()
    for name, exact in wanted.items():
        off = (found[name].double() - exact.double()).abs().max() / exact.double().abs().max()
        yield float(off), name
