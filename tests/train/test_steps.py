"""A step that is taken, and one that is dropped, at every ZeRO stage: the real engine on two ranks."""

import math
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM
from world.faults import faulty
from world.packs import VOCABULARY, MemoryPlan

from ropewalk.rope import install, make_scheme
from ropewalk.train import TrainError
from ropewalk.train.attention.pairs import sdpa
from ropewalk.train.batch import Batches
from ropewalk.train.engine import (
    accumulate,
    drop_step,
    gradient_norm,
    make_engine,
    named_parameters,
    set_learning_rate,
    take_step,
)
from ropewalk.train.loss import TokenLoss
from ropewalk.train.mesh import Mesh
from ropewalk.train.model import for_training
from ropewalk.train.release import release
from ropewalk.train.settings import TrainSection
from ropewalk.train.streaming import Streaming

PACKS = 4
CLIP = 0.5
KINDS = ("gradient", "loss", "finite")
ENGINES = [
    (0, "float32", None),
    (1, "float32", 24),
    (2, "float32", None),
    (3, "float32", 24),
    (1, "bfloat16", 24),
    pytest.param(2, "bfloat16", None, marks=pytest.mark.slow),
    pytest.param(3, "bfloat16", 24, marks=pytest.mark.slow),
]


class Trainer:
    """An engine of a small model, its packs and its ranks."""

    def __init__(self, stage: int, dtype: str, chunk: int | None) -> None:
        self.mesh = Mesh.of_world()
        plan: Any = MemoryPlan()
        self.batches = Batches(plan=plan, layout=self.mesh.layout, packs_per_step=PACKS, micro_batch=1)
        values: dict[str, Any] = {
            "zero_stage": stage,
            "optimizer": {"clip": CLIP},
            "batch_tokens": 64 * PACKS,
            "chunk": chunk,
        }
        section = TrainSection(steps=6, learning_rate=1e-2, checkpoint_every=2, loss_chunk=24, **values)
        section = section.model_copy(update={"dtype": dtype})
        self.engine = make_engine(small(dtype), section, accumulation=self.batches.accumulation)
        self.streaming = Streaming.of(section, self.mesh, sdpa)

    def gradients(self, step: int) -> float:
        set_learning_rate(self.engine, 1e-2 / (1 + step))
        return accumulate(self.engine, self.batches, step, self.streaming)

    def spoilt_gradients(self, step: int, kind: str) -> float:
        if kind == "finite":  # a spike
            return self.gradients(step)
        with faulty(self.engine, kind):
            return self.gradients(step)

    def norm(self) -> float:
        return gradient_norm(self.engine, self.mesh)

    def held(self) -> list[torch.Tensor]:
        """Give everything that the optimizer keeps on this rank, and the weights of the next forward."""
        optimizer = self.engine.optimizer
        state = getattr(optimizer, "optimizer", optimizer).state
        kept = [
            t for master, of in state.items() for t in (master, of["step"], of["exp_avg"], of["exp_avg_sq"])
        ]
        kept += [getattr(p, "ds_tensor", p) for p in self.engine.module.parameters()]
        return [t.detach().clone() for t in kept]

    def stored(self) -> int:
        """Count the bytes that wait for a backward."""
        return self.streaming.store.bytes if self.streaming.store else 0


def small(dtype: str) -> TokenLoss:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=48,
        intermediate_size=40,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=12,
        max_position_embeddings=32,
    )
    model = install(LlamaForCausalLM(config), make_scheme("yarn"), target_length=64)
    torch.nn.Module.to(model, getattr(torch, dtype))
    return TokenLoss(for_training(model, gradient_checkpointing=False), chunk=24)


def equal(one: list[torch.Tensor], other: list[torch.Tensor]) -> bool:
    return len(one) == len(other) and all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def take(trainer: Trainer, step: int) -> tuple[float, float, float]:
    """Take a step; give our norm, that of the gathered gradients, and what DeepSpeed says afterwards."""
    from deepspeed.utils import safe_get_full_grad  # the engine has set what its first import reads

    trainer.gradients(step)
    norm = trainer.norm()
    whole = [safe_get_full_grad(p) for _, p in named_parameters(trainer.engine)]
    gathered = float(torch.stack([g.double().norm() for g in whole if g is not None]).norm())
    take_step(trainer.engine)
    reported = trainer.engine.get_global_grad_norm() if trainer.engine.zero_optimization_stage() else gathered
    return norm, gathered, float(reported)


def drop(trainer: Trainer, kind: str) -> tuple[str, float, float, bool, int]:
    """Drop step 1; give what it came to, whether it left all as it was, and what the store still holds."""
    before = trainer.held()
    loss = trainer.spoilt_gradients(1, kind)
    norm = trainer.norm()
    drop_step(trainer.engine)
    return kind, loss, norm, equal(before, trainer.held()), trainer.stored()


def with_and_without(
    stage: int, dtype: str, chunk: int | None
) -> tuple[list[tuple[float, float, float]], list[tuple[str, float, float, bool, int]], bool]:
    """Take steps 0 and 2, with step 1 dropped between for each kind of fault, and without any.

    Give the norms of the steps taken, what became of those dropped, and whether both ends are the same to
    the bit.
    """
    norms, dropped, ends = [], [], []
    for kinds in (KINDS, ()):
        trainer = Trainer(stage, dtype, chunk)
        norms.append(take(trainer, 0))
        dropped += [drop(trainer, kind) for kind in kinds]
        norms.append(take(trainer, 2))
        ends.append(trainer.held())
        release(trainer.engine)
    return norms, dropped, equal(*ends)


@pytest.mark.parametrize(("stage", "dtype", "chunk"), ENGINES)
def test_a_dropped_step_leaves_what_a_run_without_it_has(
    ranks: Any, stage: int, dtype: str, chunk: int | None
) -> None:
    one, other = ranks(2, timeout=300)(with_and_without, stage, dtype, chunk)
    assert repr(one[:2]) == repr(other[:2])  # every rank sees the fault of one
    for norm, gathered, reported in one[0]:
        assert norm == pytest.approx(gathered, rel=1e-6)
        assert norm == pytest.approx(reported, rel=1e-6)
        assert norm > CLIP  # else nothing was clipped
    for kind, loss, norm, untouched, stored in one[1]:
        assert math.isfinite(loss) == (kind != "loss"), kind
        assert math.isfinite(norm) == (kind == "finite"), kind
        assert untouched, kind
        assert stored == 0, kind
    assert one[2]
    assert other[2]


def broken_off() -> tuple[int, int, bool]:
    """Break off a step in the middle of a pack and make its gradients again; compare with those at once.

    Also the bytes that the store held then, and holds after.
    """
    found, stored = [], 0
    for broken in (False, True):
        trainer = Trainer(1, "float32", 24)
        if broken:
            hook = trainer.engine.module.register_forward_hook(refusing(trainer))
            with pytest.raises(TrainError, match="in the middle"):
                trainer.gradients(0)
            hook.remove()
            trainer.engine.optimizer.zero_grad()
            stored = trainer.stored()
        trainer.gradients(0)
        grads = [g for group in trainer.engine.optimizer.averaged_gradients.values() for g in group]
        found.append([g.clone() for g in grads])
        left = trainer.stored()
        release(trainer.engine)
    return stored, left, equal(*found)


def refusing(trainer: Trainer) -> Any:
    """Raise in the forward after the first backward: later tokens have then sent their gradients back."""
    store = trainer.streaming.store
    assert store is not None

    def refuse(*_: Any) -> None:
        if store.gradients:
            raise TrainError("in the middle")

    return refuse


def test_what_a_step_that_broke_off_left_in_the_store_reaches_no_other(ranks: Any) -> None:
    for stored, left, same in ranks(2, timeout=300)(broken_off):
        assert stored > 0  # else it did not break off in the middle
        assert left == 0
        assert same
