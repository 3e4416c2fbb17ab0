"""How well an installed model predicts given tokens, its sequence spread over ranks like in training."""

from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor
from transformers import PreTrainedModel

from .attention.kernels import choose_kernel
from .attention.ulysses import GroupedAttention
from .loss import IGNORED, ChunkedHead, hidden_states, with_chunked_head
from .mesh import Mesh


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
    chunk: int = 1024,
    kernel: str = "auto",
) -> TokenScores:
    """Score `tokens` [B, N], one group a row; the same [B, N - 1] result on every rank that holds a part.

    N need not be divisible by the sequence degree: rows are padded inside, and causal attention keeps the
    padding from reaching a scored token.
    """
    mesh = mesh or Mesh.alone()
    rows, length = tokens.shape
    degree = mesh.layout.sequence
    padded = -(-length // degree) * degree
    [(start, stop)] = mesh.layout.spans(mesh.rank, 0, padded)
    row = torch.nn.functional.pad(tokens.to(mesh.device), (0, padded - length))
    labels = torch.nn.functional.pad(row[:, 1:length], (0, padded - length + 1), value=IGNORED)
    positions = torch.arange(start, stop, device=mesh.device).expand(rows, -1)
    attend = GroupedAttention(
        groups=[[(0, padded)]] * rows,
        kernel=choose_kernel(kernel, mesh.device),
        sequence_group=mesh.heads_group,
    )
    training = model.training
    model.eval()
    lengths = torch.full_like(positions[:, :1], length)
    hidden = hidden_states(model, row[:, start:stop], positions, lengths, attend)
    head = with_chunked_head(model, chunk).lm_head
    assert isinstance(head, ChunkedHead)
    loss, correct = head.scores(hidden, labels[:, start:stop])
    model.train(training)
    whole = [gather_spans(x, mesh)[:, : length - 1] for x in (loss.float(), correct)]
    return TokenScores(loss=whole[0].cpu(), correct=whole[1].cpu())


def gather_spans(mine: Tensor, mesh: Mesh) -> Tensor:
    """Join the spans [B, S / sequence] of a sequence group into [B, S]."""
    if mesh.sequence_group is None:
        return mine
    parts = [torch.empty_like(mine) for _ in range(mesh.layout.sequence)]
    dist.all_gather(parts, mine.contiguous(), group=mesh.sequence_group)
    return torch.cat(parts, 1)
