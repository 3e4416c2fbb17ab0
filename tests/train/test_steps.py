"""A step that is taken, and one that is dropped, at every ZeRO stage: the real engine on two ranks."""

import math
from functools import partial
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM
from world.faults import faulty
from world.packs import VOCABULARY, MemoryPlan

from ropewalk.rope import install, make_scheme
from ropewalk.train.attention.grouped import GroupedAttention
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
from ropewalk.train.settings import TrainSection

PACKS = 4
ENGINES = [(0, "float32"), (1, "float32"), (2, "float32"), (3, "float32")]
ENGINES += [(1, "bfloat16"), (2, "bfloat16"), (3, "bfloat16")]


class Trainer:
    """An engine of a small model, its packs and its ranks."""

    def __init__(self, stage: int, dtype: str, clip: float = 1.0) -> None:
        self.mesh = Mesh.of_world()
        plan: Any = MemoryPlan()
        self.batches = Batches(plan=plan, layout=self.mesh.layout, packs_per_step=PACKS, micro_batch=1)
        values: dict[str, Any] = {
            "zero_stage": stage,
            "optimizer": {"clip": clip},
            "batch_tokens": 64 * PACKS,
        }
        section = TrainSection(steps=6, learning_rate=1e-2, checkpoint_every=2, loss_chunk=24, **values)
        section = section.model_copy(update={"dtype": dtype})
        self.engine = make_engine(small(dtype), section, accumulation=self.batches.accumulation)
        kernel = partial(GroupedAttention, kernel=sdpa)
        self.gradients = partial(self._gradients, kernel)

    def _gradients(self, attention: Any, step: int) -> float:
        set_learning_rate(self.engine, 1e-2 / (1 + step))
        return accumulate(self.engine, self.batches, step, self.mesh, attention)

    def held(self) -> list[torch.Tensor]:
        """Give everything that the optimizer keeps on this rank, and the weights of the next forward."""
        optimizer = self.engine.optimizer
        state = getattr(optimizer, "optimizer", optimizer).state
        kept = [
            t for master, of in state.items() for t in (master, of["step"], of["exp_avg"], of["exp_avg_sq"])
        ]
        kept += [getattr(p, "ds_tensor", p) for p in self.engine.module.parameters()]
        return [t.detach().clone() for t in kept]


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


def norms(stage: int, dtype: str, clip: float) -> list[tuple[float, float, float]]:
    """Give of three steps our norm, that of the gathered gradients, and what DeepSpeed says afterwards."""
    trainer, found = Trainer(stage, dtype, clip), []
    from deepspeed.utils import safe_get_full_grad  # the engine has set what its first import reads

    for step in range(3):
        trainer.gradients(step)
        norm = gradient_norm(trainer.engine, trainer.mesh)
        whole = [safe_get_full_grad(p) for _, p in named_parameters(trainer.engine)]
        gathered = torch.stack([g.double().norm() for g in whole if g is not None]).norm()
        take_step(trainer.engine)
        reported = trainer.engine.get_global_grad_norm() if stage else gathered
        found.append((norm, float(gathered), float(reported)))
    trainer.engine.destroy()
    return found


@pytest.mark.parametrize(("stage", "dtype"), ENGINES)
def test_the_norm_before_a_step_is_that_of_the_gradients_and_of_deepspeed(
    ranks: Any, stage: int, dtype: str
) -> None:
    one, other = ranks(2, timeout=300)(norms, stage, dtype, 0.5)
    assert [norm for norm, *_ in one] == [norm for norm, *_ in other]
    for norm, gathered, reported in one:
        assert norm == pytest.approx(gathered, rel=1e-6)
        assert norm == pytest.approx(reported, rel=1e-6)
        assert norm > 0.5  # else nothing was clipped


def with_and_without(stage: int, dtype: str, kind: str) -> tuple[list[tuple[float, float]], bool, bool]:
    """Take steps 0 and 2, with a dropped step 1 between and without; say whether all is the same to the bit.

    Also what step 1 came to, and whether it left all as it was.
    """
    seen, untouched, ends = [], True, []
    for steps in ([0, 1, 2], [0, 2]):
        trainer = Trainer(stage, dtype)
        for step in steps:
            if step != 1:
                trainer.gradients(step)
                assert math.isfinite(gradient_norm(trainer.engine, trainer.mesh))
                take_step(trainer.engine)
                continue
            before = trainer.held()
            loss = spoilt_gradients(trainer, step, kind)
            seen.append((loss, gradient_norm(trainer.engine, trainer.mesh)))
            drop_step(trainer.engine)
            untouched = equal(before, trainer.held())
        ends.append(trainer.held())
        trainer.engine.destroy()
    return seen, untouched, equal(*ends)


def spoilt_gradients(trainer: Trainer, step: int, kind: str) -> float:
    if kind == "finite":  # a spike
        return trainer.gradients(step)
    with faulty(trainer.engine, kind):
        return trainer.gradients(step)


def equal(one: list[torch.Tensor], other: list[torch.Tensor]) -> bool:
    return len(one) == len(other) and all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("kind", ["gradient", "loss", "finite"])
@pytest.mark.parametrize(("stage", "dtype"), ENGINES)
def test_a_dropped_step_leaves_what_a_run_without_it_has(
    ranks: Any, stage: int, dtype: str, kind: str
) -> None:
    one, other = ranks(2, timeout=300)(with_and_without, stage, dtype, kind)
    (loss, norm), untouched, same = one[0][0], one[1], one[2]
    assert math.isfinite(loss) == (kind != "loss")
    assert math.isfinite(norm) == (kind == "finite")
    assert repr(one[0]) == repr(other[0])  # every rank sees the fault of one
    assert untouched
    assert same
    assert other[1:] == (True, True)
