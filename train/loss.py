"""Next-token loss without the logits of a whole pack: the model's head works chunk by chunk."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel

IGNORED = -100  # the label that carries no loss


class ChunkedHead(nn.Linear):
    """An output projection that can score labels itself.

    The chunks run inside the forward of the module that owns the weight: at ZeRO-3 a weight is whole only
    there, and one module call gathers it once for all chunks.
    """

    chunk: int

    @classmethod
    def of(cls, head: nn.Module, *, chunk: int) -> "ChunkedHead":
        """Take over the parameters of `head`, so that names, ties and dtype stay."""
        assert isinstance(head, nn.Linear), type(head)
        made = cls(1, 1, bias=False, device="meta")
        made.in_features, made.out_features = head.in_features, head.out_features
        made.weight, made.bias = head.weight, head.bias
        made.chunk = chunk
        return made

    def forward(self, input: Tensor, labels: Tensor | None = None) -> Tensor:
        """Return logits [..., vocabulary], or with `labels` [...] the sum of their losses in nats."""
        if labels is None:
            return super().forward(input)
        total = input.new_zeros((), dtype=accumulation_dtype(input.dtype))
        for hidden, wanted in self.chunks(input, labels):
            total = total + checkpoint(self.chunk_loss, hidden, wanted, use_reentrant=False)
        return total

    def chunks(self, hidden: Tensor, labels: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        return zip(hidden.flatten(0, -2).split(self.chunk), labels.flatten().split(self.chunk), strict=True)

    def chunk_loss(self, hidden: Tensor, labels: Tensor) -> Tensor:
        logits = super().forward(hidden)
        return cross_entropy(
            logits.to(accumulation_dtype(logits.dtype)), labels, ignore_index=IGNORED, reduction="sum"
        )

    def scores(self, hidden: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Return each label's loss (nats) and whether it was the most likely token, shaped as labels."""
        losses, hits = [], []
        for part, wanted in self.chunks(hidden, labels):
            logits = super().forward(part)
            logits = logits.to(accumulation_dtype(logits.dtype))
            losses.append(cross_entropy(logits, wanted, ignore_index=IGNORED, reduction="none"))
            hits.append(logits.argmax(-1) == wanted)
        return torch.cat(losses).view(labels.shape), torch.cat(hits).view(labels.shape)


def accumulation_dtype(dtype: torch.dtype) -> torch.dtype:
    return torch.float32 if dtype in (torch.bfloat16, torch.float16) else dtype


class TokenLoss(nn.Module):
    """What the engine wraps: an installed model whose output is the loss of its rank's tokens."""

    def __init__(self, model: PreTrainedModel, *, chunk: int) -> None:
        super().__init__()
        self.model = with_chunked_head(model, chunk)

    def forward(
        self, tokens: Tensor, positions: Tensor, lengths: Tensor, labels: Tensor, attend: object
    ) -> Tensor:
        """Sum the losses of `labels` [B, S] given `tokens`, global `positions` and groups' `lengths`."""
        hidden = hidden_states(self.model, tokens, positions, lengths, attend)
        return self.model.lm_head(hidden, labels)


def with_chunked_head(model: PreTrainedModel, chunk: int) -> PreTrainedModel:
    if not isinstance(model.lm_head, ChunkedHead):
        model.lm_head = ChunkedHead.of(model.lm_head, chunk=chunk)
    model.lm_head.chunk = chunk
    return model


def hidden_states(
    model: PreTrainedModel, tokens: Tensor, positions: Tensor, lengths: Tensor | None, attend: object
) -> Tensor:
    """Run the decoder on a span [B, S]; no cache and no 2-D mask, either would let documents leak."""
    decoder = model.base_model
    out = decoder(input_ids=tokens, position_ids=positions, lengths=lengths, use_cache=False, attend=attend)
    return out.last_hidden_state
