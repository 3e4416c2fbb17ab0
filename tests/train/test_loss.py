"""Chunked loss and token scores are those of the whole logits; the chunking acts; no label, no NaN."""

import copy
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, linear
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import LlamaConfig, LlamaForCausalLM
from world.packs import VOCABULARY

from ropewalk.rope import install, make_scheme
from ropewalk.train.attention.grouped import GroupedAttention
from ropewalk.train.attention.pairs import sdpa
from ropewalk.train.errors import TrainError
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

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
        loss = module(tokens_of(), *places(), labels, attention())
    loss.backward()
    return loss.detach(), {n: p.grad for n, p in module.named_parameters() if p.grad is not None}, kept


def places() -> tuple[Tensor, Tensor]:
    return torch.arange(LENGTH).expand(ROWS, -1), torch.full((ROWS, 1), LENGTH)


def attention() -> GroupedAttention:
    return GroupedAttention(groups=[[(0, LENGTH)]] * ROWS, kernel=sdpa)


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
    assert "model.lm_head.weight" in grads or "model.model.embed_tokens.weight" in grads
    assert all((grad == 0).all() for grad in grads.values())


def test_without_labels_the_layers_run_and_the_head_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    module, attend = TokenLoss(install(tiny()), chunk=8), attention()
    monkeypatch.setattr(module.model.lm_head, "forward", None)
    with torch.no_grad():
        zero = module(tokens_of(), *places(), None, attend)
    assert (float(zero), zero.shape, sorted(attend.layers)) == (0.0, (), [0, 1])


@dataclass
class Problem:
    """A head of 60 words on 50 tokens of width 24; a fifth of the labels are ignored, one chunk's all."""

    head: torch.nn.Linear
    hidden: Tensor
    labels: Tensor


def problem(dtype: torch.dtype, *, bias: bool = False) -> Problem:
    draw = torch.Generator().manual_seed(2)
    head = torch.nn.Linear(24, 60, bias=bias, dtype=dtype)
    for parameter in head.parameters():
        torch.nn.init.normal_(parameter, generator=draw)
    labels = torch.randint(60, (2, 25), generator=draw)
    labels[torch.rand(2, 25, generator=draw) < 0.2] = -100
    labels[0, 7:14] = -100
    hidden = torch.randn(2, 25, 24, generator=draw, dtype=torch.float64).to(dtype)
    return Problem(head, hidden.requires_grad_(), labels)


def gradients(problem: Problem, loss: Tensor) -> list[Tensor]:
    return list(torch.autograd.grad(loss, [problem.hidden, *problem.head.parameters()]))


def plain(problem: Problem) -> Tensor:
    logits = problem.head(problem.hidden).flatten(0, 1)
    return cross_entropy(logits, problem.labels.flatten(), ignore_index=-100, reduction="sum")


@pytest.mark.parametrize("bias", [False, True], ids=["no bias", "bias"])
@pytest.mark.parametrize("chunk", [1, 7, 50, 1000])
@pytest.mark.parametrize(("dtype", "close"), [(torch.float64, 1e-12), (torch.float32, 2e-6)])
def test_gradients_are_those_of_whole_logits(
    bias: bool, chunk: int, dtype: torch.dtype, close: float
) -> None:
    given = problem(dtype, bias=bias)
    wanted = plain(given) * 0.37
    found = ChunkedHead.of(given.head, chunk=chunk)(given.hidden, given.labels) * 0.37
    torch.testing.assert_close(found, wanted, rtol=close, atol=0)
    for ours, theirs in zip(gradients(given, found), gradients(given, wanted), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=close, atol=close * float(theirs.abs().max()))


def test_bfloat16_sums_over_chunks_round_once() -> None:
    given = problem(torch.bfloat16)
    exact = copy.deepcopy(given)
    exact.head.double()
    exact.hidden = given.hidden.detach().double().requires_grad_()
    rounded = linear(given.hidden, given.head.weight).double() - linear(exact.hidden, exact.head.weight)
    # the logits are those that bfloat16 gives; all that follows is exact
    logits = (linear(exact.hidden, exact.head.weight) + rounded.detach()).flatten(0, 1)
    wanted = cross_entropy(logits, exact.labels.flatten(), ignore_index=-100, reduction="sum")
    (ours,) = torch.autograd.grad(
        ChunkedHead.of(given.head, chunk=1)(given.hidden, given.labels), list(given.head.parameters())
    )
    (theirs,) = torch.autograd.grad(wanted, list(exact.head.parameters()))
    assert ours.dtype == torch.bfloat16
    slack = 1e-5 * theirs.abs().max()  # the float32 sums
    assert ((ours.double() - theirs).abs() <= 2.0**-8 * theirs.abs() + slack).all()


@pytest.mark.parametrize("trained", ["hidden", "weight", "neither", "no_grad"])
def test_only_what_is_trained_gets_a_gradient(trained: str) -> None:
    given = problem(torch.float64)
    given.hidden.requires_grad_(trained != "weight" and trained != "neither")
    given.head.weight.requires_grad_(trained != "hidden" and trained != "neither")
    with torch.set_grad_enabled(trained != "no_grad"), Products() as products:
        loss = ChunkedHead.of(given.head, chunk=10)(given.hidden, given.labels)
    made = {"hidden": 10, "weight": 10, "neither": 5, "no_grad": 5}[trained]  # five chunks, with their logits
    assert (products.count, loss.requires_grad) == (made, trained in ("hidden", "weight"))
    if loss.requires_grad:
        loss.backward()
        assert (given.hidden.grad is not None, given.head.weight.grad is not None) == (
            trained == "hidden",
            trained == "weight",
        )


class Products(TorchDispatchMode):
    """Counts matrix products."""

    count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += func.overloadpacket in (torch.ops.aten.mm, torch.ops.aten.addmm, torch.ops.aten.addmm_)
        return func(*args, **(kwargs or {}))


def test_backward_makes_no_logits_again_and_a_chunk_without_labels_none() -> None:
    given = problem(torch.float64)
    with Products() as products:
        loss = ChunkedHead.of(given.head, chunk=7)(given.hidden, given.labels)
    with_labels = sum(bool((part != -100).any()) for part in given.labels.flatten().split(7))
    assert with_labels < 8  # of eight chunks
    assert products.count == 3 * with_labels
    with Products() as products:
        loss.backward()
    assert products.count == 0


def test_a_second_backward_is_refused() -> None:
    given = problem(torch.float64)
    loss = ChunkedHead.of(given.head, chunk=7)(given.hidden, given.labels)
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_a_capped_head_is_refused() -> None:
    model = install(tiny())
    model.config.final_logit_softcapping = 30.0
    for use in (lambda: TokenLoss(model, chunk=8), lambda: token_scores(model, tokens_of())):
        with pytest.raises(TrainError, match=r"final_logit_softcapping 30\.0.*null"):
            use()


def test_scoring_leaves_the_model_as_it_is() -> None:
    trained = TokenLoss(install(tiny()), chunk=8).model
    token_scores(trained, tokens_of(), chunk=11)
    assert trained.lm_head.chunk == 8
    plain_model = install(tiny())
    token_scores(plain_model, tokens_of(), chunk=11)
    assert type(plain_model.lm_head) is torch.nn.Linear


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
