"""How well an installed model predicts given tokens, its sequence spread over ranks like in training."""

from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn.functional import pad
from transformers import PreTrainedModel

from .attention.kernels import choose_kernel
from .attention.store import Store
from .layout import Span
from .loss import IGNORED, hidden_states, label_scores
from .mesh import Mesh
from .streaming import Streaming, Visit, chunks


@dataclass(frozen=True, kw_only=True)
class TokenScores:
    """For tokens [B, N]: the loss in nats of tokens 1..N-1 and whether each was the model's first choice."""

    loss: Tensor
    correct: Tensor


@torch.no_grad()
def token_scores(
    model: PreTrainedModel,
    tokens: Tensor,
    *,
    mesh: Mesh | None = None,
    chunk: int | None = None,
    loss_chunk: int = 1024,
    kernel: str = "auto",
) -> TokenScores:
    """Score `tokens` [B, N], one group a row; the same [B, N - 1] result on every rank that holds a part.

    At most `chunk` tokens of a row are in the model at once. N need not be divisible by the sequence degree:
    rows are padded inside, and causal attention keeps the padding from reaching a scored token.
    """
    mesh = mesh or Mesh.alone()
    rows, length = tokens.shape
    degree = mesh.layout.sequence
    padded, size = (None if n is None else -(-n // degree) * degree for n in (length, chunk))
    assert padded is not None
    row = pad(tokens.to(mesh.device), (0, padded - length))
    labels = pad(row[:, 1:length], (0, padded - length + 1), value=IGNORED)
    store = None if size is None else Store(lambda layer: False, mesh.device)
    streaming = Streaming(mesh, choose_kernel(kernel, mesh.device, model.dtype), size, store)
    cut = chunks(padded, size)
    training = model.training
    model.eval()
    found: list[tuple[Tensor, Tensor]] = []
    for number, span in enumerate(cut):
        visit = Visit(span, cut[:number], True)
        own = torch.cat([torch.arange(*part, device=mesh.device) for part in streaming.spans(visit)])
        positions = own.expand(rows, -1)
        lengths = torch.full_like(positions[:, :1], length)
        attend = streaming.attention([[(0, padded)]] * rows, visit)
        hidden = hidden_states(model, row[:, own], positions, lengths, attend)
        loss, correct = label_scores(model, hidden, labels[:, own], chunk=loss_chunk)
        found.append((gather_tokens(loss.float(), span, mesh), gather_tokens(correct, span, mesh)))
    model.train(training)
    loss, correct = (torch.cat(parts, 1)[:, : length - 1].cpu() for parts in zip(*found, strict=True))
    return TokenScores(loss=loss, correct=correct)


def gather_tokens(mine: Tensor, span: Span, mesh: Mesh) -> Tensor:
    """Join what the ranks of a sequence group hold of `span`, [B, own tokens], into [B, all of them]."""
    if mesh.sequence_group is None:
        return mine
    parts = [torch.empty_like(mine) for _ in range(mesh.layout.sequence)]
    dist.all_gather(parts, mine.contiguous(), group=mesh.sequence_group)
    ranks = mesh.layout.sequence_ranks(mesh.data_rank)
    places = [torch.arange(*one) for rank in ranks for one in mesh.layout.spans(rank, *span)]
    return torch.cat(parts, 1)[:, torch.cat(places).argsort().to(mine.device)]
