"""Chunked loss and token scores are those of the whole logits; the chunking acts; no label, no NaN."""

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import LlamaConfig, LlamaForCausalLM
from world.packs import VOCABULARY

from ropewalk.rope import install, make_scheme
from ropewalk.train.attention.grouped import GroupedAttention
from ropewalk.train.attention.pairs import sdpa
from ropewalk.train.loss import ChunkedHead, TokenLoss
from ropewalk.train.mesh import Mesh
from ropewalk.train.score import token_scores

ROWS, LENGTH = 3, 40


def tiny() -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        tie_word_embeddings=True,
        max_position_embeddings=32,
    )
    return LlamaForCausalLM(config).double().eval()


def tokens_of(length: int = LENGTH) -> Tensor:
    return torch.randint(VOCABULARY, (ROWS, length), generator=torch.Generator().manual_seed(1))


def step(labels: Tensor, chunk: int) -> tuple[Tensor, dict[str, Tensor], list[int]]:
    """Loss, gradients, and the sizes of what autograd kept."""
    module = TokenLoss(install(tiny()), chunk=chunk)
    kept: list[int] = []

    def keep(x: Tensor) -> Tensor:
        kept.append(x.numel())
        return x

    attend = GroupedAttention(groups=[[(0, LENGTH)]] * ROWS, kernel=sdpa)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
        positions = torch.arange(LENGTH).expand(ROWS, -1)
        loss = module(tokens_of(), positions, torch.full((ROWS, 1), LENGTH), labels, attend)
    loss.backward()
    return loss.detach(), {n: p.grad for n, p in module.named_parameters() if p.grad is not None}, kept


def test_chunks_change_memory_and_not_numbers() -> None:
    labels = tokens_of().roll(-1, 1)
    labels[:, -1] = -100
    model = install(tiny())
    logits = model(tokens_of(), use_cache=False).logits
    wanted = cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=-100, reduction="sum")
    wanted.backward()
    loss, grads, kept = step(labels, chunk=7)
    torch.testing.assert_close(loss, wanted.detach(), rtol=1e-12, atol=0)
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(grads[f"model.{name}"], parameter.grad, rtol=1e-9, atol=1e-12)
    assert max(kept) < ROWS * LENGTH * VOCABULARY  # no whole logits were kept for backward


def test_a_rank_without_labels_adds_zero_and_no_nan() -> None:
    loss, grads, _ = step(torch.full((ROWS, LENGTH), -100), chunk=16)
    assert loss == 0
    assert all((grad == 0).all() for grad in grads.values())


def test_head_without_labels_gives_logits() -> None:
    model = tiny()
    head, hidden = model.lm_head, torch.randn(2, 5, 32, dtype=torch.float64)
    assert torch.equal(ChunkedHead.of(head, chunk=3)(hidden), head(hidden))


@pytest.mark.parametrize("chunk", [None, 11])
@pytest.mark.parametrize("length", [LENGTH, 37, 2])
def test_scores_are_those_of_plain_logits(length: int, chunk: int | None) -> None:
    tokens = tokens_of(length)
    logits = tiny()(tokens, use_cache=False).logits[:, :-1]
    wanted = cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten(), reduction="none")
    found = token_scores(install(tiny()), tokens, chunk=chunk, loss_chunk=11)
    # plain transformers turns in float32 angles
    torch.testing.assert_close(found.loss.flatten().double(), wanted, rtol=1e-5, atol=1e-5)
    assert torch.equal(found.correct, logits.argmax(-1) == tokens[:, 1:])


def scored(heads: int, gather: int, length: int, chunk: int | None) -> tuple[Tensor, Tensor]:
    model = install(tiny(), make_scheme("yarn"), target_length=64)
    mesh = Mesh.of_world(heads=heads, gather=gather) if heads * gather > 1 else Mesh.alone()
    found = token_scores(model, tokens_of(length), mesh=mesh, chunk=chunk, loss_chunk=11)
    return found.loss, found.correct


@pytest.mark.parametrize("length", [64, 61])
@pytest.mark.parametrize(("heads", "gather", "chunk"), [(2, 1, None), (2, 1, 11), (1, 2, 20)])
def test_scores_do_not_depend_on_the_ranks(
    ranks, heads: int, gather: int, chunk: int | None, length: int
) -> None:
    loss, correct = scored(1, 1, length, None)
    for other, hits in ranks(2)(scored, heads, gather, length, chunk):
        torch.testing.assert_close(other, loss, rtol=1e-6, atol=1e-7)
        assert torch.equal(hits, correct)
