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
from ropewalk.train.attention.kernels import Groups, sdpa
from ropewalk.train.attention.ulysses import GroupedAttention
from ropewalk.train.batch import Batches
from ropewalk.train.engine import accumulate, make_engine, named_parameters, update
from ropewalk.train.loss import TokenLoss
from ropewalk.train.mesh import Mesh
from ropewalk.train.model import for_training
from ropewalk.train.settings import TrainSection
from ropewalk.train.state import seed_states

PACKS = 8


@dataclass(frozen=True)
class Case:
    """A model and a memory switch whose numbers must not depend on the layout."""

    kv_heads: int = 2
    tied: bool = True
    checkpointing: bool = True
    dtype: torch.dtype = torch.float64


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


def gradients(case: Case, sequence: int) -> tuple[float, dict[str, torch.Tensor]]:
    """Loss sum and its gradients over the first packs, on this rank's spans, added over the world."""
    world = dist.get_world_size() if dist.is_initialized() else 1
    mesh = Mesh.of_world(heads=sequence) if world > 1 else Mesh.alone()
    batches = Batches(plan=MemoryPlan(), layout=mesh.layout, packs_per_step=PACKS, micro_batch=2)  # type: ignore[arg-type]
    module = tiny(case)
    total = 0.0
    for packs in batches.micro_batches(0, mesh.data_rank):
        batch = batches.read(packs, mesh.layout.spans(mesh.rank, 0, batches.plan.length), mesh.device)
        loss = module(
            batch.tokens, batch.positions, batch.lengths, batch.labels, attention_of(mesh)(batch.groups)
        )
        loss.backward()
        total += float(loss.detach())
    found = {name: p.grad.clone() for name, p in module.named_parameters() if p.grad is not None}
    if world > 1:
        for grad in found.values():
            dist.all_reduce(grad)
    return mesh.sum([total])[0], found


def attention_of(mesh: Mesh) -> Any:
    def attention(groups: Groups) -> GroupedAttention:
        return GroupedAttention(groups=groups, kernel=sdpa, sequence_group=mesh.sequence_group)

    return attention


CASES = [
    (Case(), 4, 4),  # fewer kv heads than ranks
    (Case(kv_heads=8, tied=False), 2, 2),
    (Case(kv_heads=4, checkpointing=False), 4, 2),
    (Case(kv_heads=8, tied=False, checkpointing=False), 4, 4),
]


@pytest.mark.parametrize(("case", "world", "sequence"), CASES, ids=str)
def test_float64_gradients_do_not_depend_on_the_layout(
    ranks: Any, case: Case, world: int, sequence: int
) -> None:
    loss, wanted = gradients(case, 1)
    for other, found in ranks(world)(gradients, case, sequence):
        assert other == pytest.approx(loss, rel=1e-12)
        assert found.keys() == wanted.keys()
        for name, grad in wanted.items():
            torch.testing.assert_close(found[name], grad, rtol=1e-10, atol=1e-10)


def settings(stage: int, sequence: int, dtype: str = "float32") -> TrainSection:
    return TrainSection(
        steps=4,
        batch_tokens=64 * PACKS,
        sequence=sequence,
        zero_stage=stage,  # type: ignore[arg-type]
        learning_rate=1e-2,
        checkpoint_every=2,
        loss_chunk=24,
        dtype=dtype,  # type: ignore[arg-type]
    )


def engine_gradients(stage: int, sequence: int, dtype: str) -> tuple[float, float, dict[str, torch.Tensor]]:
    """Loss, gradient norm and gradients of the token mean, as the engine holds them in its step."""
    case = Case(dtype=torch.float32 if dtype == "float32" else torch.bfloat16)
    mesh = Mesh.of_world(heads=sequence)
    batches = Batches(plan=MemoryPlan(), layout=mesh.layout, packs_per_step=PACKS, micro_batch=1)  # type: ignore[arg-type]
    engine = make_engine(tiny(case), settings(stage, sequence, dtype), accumulation=batches.accumulation)
    seed_states(engine, 0)
    loss = accumulate(engine, batches, 0, mesh, attention_of(mesh))
    from deepspeed.utils import safe_get_full_grad  # the engine has set what its first import reads

    found = {name: safe_get_full_grad(p) for name, p in named_parameters(engine)}
    found = {name: grad.float().cpu().clone() for name, grad in found.items() if grad is not None}
    norm = update(engine)
    engine.destroy()
    return loss, norm, found


def token_mean() -> tuple[float, dict[str, torch.Tensor]]:
    loss, grads = gradients(Case(), 1)
    tokens = Batches(
        plan=MemoryPlan(),  # type: ignore[arg-type]
        layout=Layout(),
        packs_per_step=PACKS,
        micro_batch=1,
    ).trained_tokens(0)
    return loss / tokens, {name.removeprefix("model."): grad.float() / tokens for name, grad in grads.items()}


@pytest.mark.parametrize(
    ("world", "sequence", "stage"),
    [(2, 2, 0), (2, 2, 1), (4, 2, 2), (4, 4, 3), (2, 1, 1)],
)
def test_engine_gradients_are_those_of_the_token_mean(
    ranks: Any, world: int, sequence: int, stage: int
) -> None:
    loss, wanted = token_mean()
    norm = torch.stack([grad.norm() for grad in wanted.values()]).norm().item()
    for other, reported, found in ranks(world)(engine_gradients, stage, sequence, "float32"):
        assert other == pytest.approx(loss, rel=1e-6)
        assert reported == pytest.approx(norm, rel=1e-5)
        assert found.keys() == wanted.keys()
        for name, grad in wanted.items():
            torch.testing.assert_close(found[name], grad, rtol=1e-5, atol=1e-5 * float(grad.abs().max()))


def test_bfloat16_engine_agrees_to_its_rounding(ranks: Any) -> None:
    loss, wanted = token_mean()
    for other, _, found in ranks(2)(engine_gradients, 2, 2, "bfloat16"):
        assert other == pytest.approx(loss, rel=1e-2)
        for name, grad in wanted.items():
            cosine = torch.cosine_similarity(found[name].flatten(), grad.flatten(), dim=0)
            assert cosine > 0.98, (name, cosine)
            assert found[name].norm() == pytest.approx(float(grad.norm()), rel=0.05)
