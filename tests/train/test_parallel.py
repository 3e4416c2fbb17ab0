"""Sequence parallelism changes nothing: loss and every gradient, in our modules and through each ZeRO stage.

The reference is one process, one rank, plain autograd.
"""

from dataclasses import dataclass
from typing import Any

import pytest
import torch
import torch.distributed as dist
from transformers import LlamaConfig, LlamaForCausalLM
from world.packs import VOCABULARY, MemoryPlan

from ropewalk.rope import install, make_scheme
from ropewalk.train import Layout
from ropewalk.train.attention.pairs import sdpa
from ropewalk.train.batch import Batches
from ropewalk.train.engine import (
    accumulate,
    gradient_norm,
    make_engine,
    named_parameters,
    planned_visits,
    take_step,
)
from ropewalk.train.loss import TokenLoss
from ropewalk.train.mesh import Mesh
from ropewalk.train.model import for_training
from ropewalk.train.settings import TrainSection
from ropewalk.train.state import seed_states
from ropewalk.train.streaming import Streaming

PACKS = 8


@dataclass(frozen=True)
class Case:
    """A model and a memory switch whose numbers must not depend on the layout."""

    kv_heads: int = 2
    tied: bool = True
    checkpointing: bool = True
    dtype: torch.dtype = torch.float64


@dataclass(frozen=True)
class Way:
    """How ranks and memory share the work, which must not decide a number."""

    heads: int = 1
    gather: int = 1
    chunk: int | None = None
    store: Any = "device"
    keep: bool = False
    micro_batch: int = 2

    def streaming(self) -> Streaming:
        mesh = Mesh.of_world(heads=self.heads, gather=self.gather) if dist.is_initialized() else Mesh.alone()
        return Streaming.of(settings(self), mesh, sdpa)


def tiny(case: Case) -> TokenLoss:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=8,
        num_key_value_heads=case.kv_heads,
        head_dim=8,
        tie_word_embeddings=case.tied,
        max_position_embeddings=32,
    )
    model = install(LlamaForCausalLM(config), make_scheme("yarn"), target_length=64)
    torch.nn.Module.to(model, case.dtype)
    return TokenLoss(for_training(model, gradient_checkpointing=case.checkpointing), chunk=24)


def gradients(case: Case, way: Way) -> tuple[float, dict[str, torch.Tensor]]:
    """Loss sum and its gradients over the first packs, on this rank's tokens, added over the world."""
    streaming = way.streaming()
    mesh = streaming.mesh
    batches = Batches(
        plan=MemoryPlan(), layout=mesh.layout, packs_per_step=PACKS, micro_batch=way.micro_batch
    )  # type: ignore[arg-type]
    module = tiny(case)
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
    assert streaming.store is None or streaming.store.bytes == 0
    found = {name: p.grad.clone() for name, p in module.named_parameters() if p.grad is not None}
    if dist.is_initialized():
        for grad in found.values():
            dist.all_reduce(grad)
    return mesh.sum([total])[0], found


CASES = [
    (Case(), 4, Way(heads=4)),  # fewer kv heads than ranks
    (Case(kv_heads=8, tied=False), 2, Way(heads=2)),
    (Case(kv_heads=4, checkpointing=False), 4, Way(heads=2)),
    (Case(kv_heads=8, tied=False, checkpointing=False), 4, Way(heads=4)),
    (Case(), 2, Way(gather=2)),
    (Case(kv_heads=8), 4, Way(heads=2, gather=2)),
    (Case(), 1, Way(chunk=24)),
    (Case(checkpointing=False), 1, Way(chunk=16, store="host", keep=True)),
    (Case(), 1, Way(keep=True)),
    (Case(), 2, Way(heads=2, chunk=24, micro_batch=1)),
    (Case(), 2, Way(gather=2, chunk=24, store="host")),
    (Case(), 4, Way(heads=2, gather=2, chunk=16, keep=True)),
    (Case(checkpointing=False), 4, Way(gather=4, chunk=20, micro_batch=1)),
]


@pytest.mark.parametrize(("case", "world", "way"), CASES, ids=str)
def test_float64_gradients_do_not_depend_on_the_layout(ranks: Any, case: Case, world: int, way: Way) -> None:
    loss, wanted = gradients(case, Way())
    for other, found in ranks(world)(gradients, case, way):
        assert other == pytest.approx(loss, rel=1e-12)
        assert found.keys() == wanted.keys()
        for name, grad in wanted.items():
            torch.testing.assert_close(found[name], grad, rtol=1e-10, atol=1e-10)


def settings(way: Way, stage: int = 0, dtype: str = "float32") -> TrainSection:
    return TrainSection(
        steps=4,
        batch_tokens=64 * PACKS,
        sequence=way.heads * way.gather,
        chunk=way.chunk,
        store=way.store,
        keep_attention=way.keep,
        zero_stage=stage,  # type: ignore[arg-type]
        learning_rate=1e-2,
        checkpoint_every=2,
        loss_chunk=24,
        dtype=dtype,  # type: ignore[arg-type]
    )


def engine_gradients(stage: int, way: Way, dtype: str) -> tuple[float, float, dict[str, torch.Tensor]]:
    """Loss, gradient norm and gradients of the token mean, as the engine holds them in its step."""
    case = Case(dtype=torch.float32 if dtype == "float32" else torch.bfloat16)
    streaming = way.streaming()
    batches = Batches(
        plan=MemoryPlan(),  # type: ignore[arg-type]
        layout=streaming.mesh.layout,
        packs_per_step=PACKS,
        micro_batch=1,
    )
    engine = make_engine(tiny(case), settings(way, stage, dtype), accumulation=batches.accumulation)
    seed_states(engine, 0)
    loss = accumulate(engine, batches, 0, streaming)
    from deepspeed.utils import safe_get_full_grad  # the engine has set what its first import reads

    found = {name: safe_get_full_grad(p) for name, p in named_parameters(engine)}
    found = {name: grad.float().cpu().clone() for name, grad in found.items() if grad is not None}
    norm = gradient_norm(engine, streaming.mesh)
    take_step(engine)
    engine.destroy()
    return loss, norm, found


def token_mean() -> tuple[float, dict[str, torch.Tensor]]:
    loss, grads = gradients(Case(), Way())
    tokens = Batches(
        plan=MemoryPlan(),  # type: ignore[arg-type]
        layout=Layout(),
        packs_per_step=PACKS,
        micro_batch=1,
    ).trained_tokens(0)
    return loss / tokens, {name.removeprefix("model."): grad.float() / tokens for name, grad in grads.items()}


@pytest.mark.parametrize(
    ("world", "way", "stage"),
    [
        (2, Way(heads=2), 0),
        (2, Way(heads=2), 1),
        (4, Way(heads=2), 2),
        (4, Way(heads=4), 3),
        (2, Way(), 1),
        (2, Way(chunk=24), 0),
        (2, Way(heads=2, chunk=24, store="host"), 1),
        (2, Way(gather=2, chunk=16, keep=True), 2),
        (4, Way(heads=2, gather=2, chunk=24), 3),
    ],
    ids=str,
)
def test_engine_gradients_are_those_of_the_token_mean(ranks: Any, world: int, way: Way, stage: int) -> None:
    loss, wanted = token_mean()
    norm = torch.stack([grad.norm() for grad in wanted.values()]).norm().item()
    for other, reported, found in ranks(world)(engine_gradients, stage, way, "float32"):
        assert other == pytest.approx(loss, rel=1e-6)
        assert reported == pytest.approx(norm, rel=1e-5)
        assert found.keys() == wanted.keys()
        for name, grad in wanted.items():
            torch.testing.assert_close(found[name], grad, rtol=1e-5, atol=1e-5 * float(grad.abs().max()))


def test_bfloat16_engine_agrees_to_its_rounding(ranks: Any) -> None:
    loss, wanted = token_mean()
    for other, _, found in ranks(2)(engine_gradients, 2, Way(heads=2), "bfloat16"):
        assert other == pytest.approx(loss, rel=1e-2)
        for name, grad in wanted.items():
            cosine = torch.cosine_similarity(found[name].flatten(), grad.flatten(), dim=0)
            assert cosine > 0.98, (name, cosine)
            assert found[name].norm() == pytest.approx(float(grad.norm()), rel=0.05)
