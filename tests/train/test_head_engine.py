"""The head through DeepSpeed: at ZeRO 3 its weight is whole only in its own call, too large to stay."""

from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import LlamaConfig, LlamaForCausalLM

from ropewalk.rope import install
from ropewalk.train.attention.grouped import GroupedAttention
from ropewalk.train.attention.pairs import sdpa
from ropewalk.train.engine import full_gradients, make_engine
from ropewalk.train.loss import TokenLoss
from ropewalk.train.model import for_training
from ropewalk.train.score import token_scores
from ropewalk.train.settings import TrainSection

VOCABULARY, LENGTH = 2048, 24
FACTOR = 0.0173


def model_of(tied: bool) -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        tie_word_embeddings=tied,
    )
    return install(LlamaForCausalLM(config))  # type: ignore[return-value]


def row_of(rank: int) -> tuple[Tensor, Tensor]:
    tokens = torch.randint(VOCABULARY, (1, LENGTH), generator=torch.Generator().manual_seed(rank))
    labels = tokens.roll(-1, 1)
    labels[:, [3, LENGTH - 1]] = -100
    return tokens, labels


def through_engine(stage: int, tied: bool) -> tuple[dict[str, Tensor], Tensor, Tensor]:
    """Gradients of FACTOR times the sum over ranks, and the scores of a row before and after."""
    sizes: dict[str, Any] = {"steps": 1, "batch_tokens": 2 * LENGTH, "checkpoint_every": 1}
    settings = TrainSection(**sizes, zero_stage=stage, learning_rate=1e-3)  # type: ignore[arg-type]
    module = TokenLoss(for_training(model_of(tied), gradient_checkpointing=True), chunk=7)
    engine = make_engine(module, settings, accumulation=1)
    tokens, labels = row_of(dist.get_rank())
    positions = torch.arange(LENGTH)[None]

    def run(labels: Tensor | None) -> Tensor:
        attend = GroupedAttention(groups=[[(0, LENGTH)]], kernel=sdpa)
        return engine(tokens, positions, torch.full_like(tokens[:, :1], LENGTH), labels, attend)

    before = token_scores(engine.module.model, tokens, chunk=5).loss
    with torch.no_grad():
        assert run(None) == 0
    loss = run(labels)
    engine.backward(loss * FACTOR * dist.get_world_size(), scale_wrt_gas=False)
    found = {name: gradient.clone() for name, gradient in full_gradients(engine)}
    after = token_scores(engine.module.model, tokens, chunk=5).loss
    engine.destroy()
    return found, before, after


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_the_heads_gradient_reaches_every_stage(ranks: Any, stage: int, tied: bool) -> None:
    model = model_of(tied)
    rows = [row_of(rank) for rank in range(2)]
    losses = [
        cross_entropy(
            model(tokens, use_cache=False).logits[0], labels[0], ignore_index=-100, reduction="none"
        )
        for tokens, labels in rows
    ]
    (torch.stack(losses).sum() * FACTOR).backward()
    for rank, (found, before, after) in enumerate(ranks(2)(through_engine, stage, tied)):
        for name, parameter in model.named_parameters():
            assert parameter.grad is not None
            close = 1e-5 * float(parameter.grad.abs().max())
            torch.testing.assert_close(found[name], parameter.grad, rtol=1e-5, atol=close)
        labelled = rows[rank][1][0, :-1] != -100
        wanted = losses[rank].detach()[:-1][labelled]
        torch.testing.assert_close(before[0][labelled], wanted, rtol=1e-5, atol=1e-5)
        assert torch.equal(before, after)
