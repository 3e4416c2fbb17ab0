"""Next-token loss without the logits of a whole pack: the model's head works chunk by chunk."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.functional import cross_entropy, linear, log_softmax, nll_loss
from transformers import PreTrainedModel

from .errors import TrainError

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

    def forward(self, input: Tensor, labels: Tensor | None = None, *, scores_by: int | None = None) -> Any:
        """Return logits [..., vocabulary], or with `labels` [...] the sum of their losses in nats.

        With `scores_by` tokens at once, return each label's loss and whether it was the most likely token.
        """
        if labels is None:
            return super().forward(input)
        hidden, flat = input.flatten(0, -2), labels.flatten()
        if scores_by:
            losses, hits = self._scores(hidden, flat, scores_by)
            return losses.view(labels.shape), hits.view(labels.shape)
        trains = torch.is_grad_enabled()  # an autograd function cannot tell: it runs without
        return _HeadLoss.apply(hidden, self.weight, self.bias, flat, self.chunk, trains)

    @torch.no_grad()
    def _scores(self, hidden: Tensor, labels: Tensor, chunk: int) -> tuple[Tensor, Tensor]:
        losses, hits = [], []
        for part, wanted in zip(hidden.split(chunk), labels.split(chunk), strict=True):
            logits = super().forward(part)
            logits = logits.to(accumulation_dtype(logits.dtype))
            losses.append(cross_entropy(logits, wanted, ignore_index=IGNORED, reduction="none"))
            hits.append(logits.argmax(-1) == wanted)
        return torch.cat(losses), torch.cat(hits)


class _HeadLoss(torch.autograd.Function):
    """Sum the losses of chunks, and make the gradients while the logits of a chunk are there.

    So no logits are kept, none are computed twice, and backward only multiplies. The weight's gradient is
    summed in `accumulation_dtype`, vocabulary * hidden of it while the graph lives, and rounded once.
    """

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        labels: Tensor,
        chunk: int,
        trains: bool,
    ) -> Tensor:
        """Return the sum of losses of `labels` [T] given `hidden` [T, H]."""
        exact = accumulation_dtype(hidden.dtype)
        needed = [trains and wanted for wanted in ctx.needs_input_grad[:3]]
        kinds = (hidden.dtype, exact, exact)
        ctx.dtypes = [None if x is None else x.dtype for x in (hidden, weight, bias)]
        sums = [
            torch.zeros_like(x, dtype=kind) if x is not None and wanted else None
            for x, kind, wanted in zip((hidden, weight, bias), kinds, needed, strict=True)
        ]
        total = hidden.new_zeros((), dtype=exact)
        for start in range(0, len(labels), chunk):
            rows = slice(start, start + chunk)
            if labels.device.type == "cpu" and bool((labels[rows] == IGNORED).all()):
                continue  # on a GPU looking would cost more than the chunk: a wait for all that is queued
            scores = log_softmax(linear(hidden[rows], weight, bias).to(exact), -1)
            total += nll_loss(scores, labels[rows], ignore_index=IGNORED, reduction="sum")
            if any(needed):
                add_gradients(sums, rows, scores, hidden[rows], weight, labels[rows])
            del scores  # else they would be there while the next are made
        ctx.save_for_backward(*sums)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Return what forward made times `grad`, in place: autograd refuses a second use by itself."""
        pairs = zip(ctx.saved_tensors, ctx.dtypes, strict=True)
        return *(None if x is None else x.mul_(grad).to(dtype) for x, dtype in pairs), None, None, None


def add_gradients(
    sums: Sequence[Tensor | None], rows: slice, scores: Tensor, hidden: Tensor, weight: Tensor, labels: Tensor
) -> None:
    """Add a chunk's gradients to the sums of hidden [T, H], weight [V, H] and bias [V]; overwrite `scores`.

    `scores` [c, V] are log-probabilities: the gradient of the logits is exp(scores) less one at the label.
    Rows without a label are taken out of its products, which have H columns and not V.
    """
    to_hidden, to_weight, to_bias = sums
    labelled = labels != IGNORED
    at = labels.where(labelled, 0)[:, None]
    slope = scores.exp_()
    slope.scatter_(1, at, slope.gather(1, at) - 1)
    if to_hidden is not None:
        to_hidden[rows] = (slope.to(weight.dtype) @ weight).mul_(labelled[:, None])
    if to_weight is not None:
        add_product(to_weight, slope, hidden * labelled[:, None])
    if to_bias is not None:
        to_bias.addmv_(slope.T, labelled.to(slope.dtype))


def add_product(total: Tensor, left: Tensor, right: Tensor) -> None:
    """Add left.T @ right to `total`, summed in its dtype; on a GPU from factors of right's dtype."""
    if right.is_cuda and right.dtype != total.dtype:
        torch.addmm(total, left.to(right.dtype).T, right, out_dtype=total.dtype, out=total)
    else:
        total.addmm_(left.T, right.to(total.dtype))


def accumulation_dtype(dtype: torch.dtype) -> torch.dtype:
    return torch.float32 if dtype in (torch.bfloat16, torch.float16) else dtype


class TokenLoss(nn.Module):
    """What the engine wraps: an installed model whose output is the loss of its rank's tokens."""

    def __init__(self, model: PreTrainedModel, *, chunk: int) -> None:
        super().__init__()
        self.model = model
        model.lm_head = ChunkedHead.of(plain_head(model), chunk=chunk)

    def forward(
        self, tokens: Tensor, positions: Tensor, lengths: Tensor, labels: Tensor | None, attend: object
    ) -> Tensor:
        """Sum the losses of `labels` [B, S] given `tokens`, global `positions` and groups' `lengths`.

        Without labels the result is a zero: the layers run for what they leave behind, the head does not.
        """
        hidden = hidden_states(self.model, tokens, positions, lengths, attend)
        if labels is None:
            return hidden.new_zeros((), dtype=accumulation_dtype(hidden.dtype))
        return self.model.lm_head(hidden, labels)


def label_scores(
    model: PreTrainedModel, hidden: Tensor, labels: Tensor, *, chunk: int
) -> tuple[Tensor, Tensor]:
    """Return the loss (nats) of each of `labels` [B, S] and whether it was the most likely token.

    The model stays as it is. One that trains has its own chunked head, whose call gathers the weight.
    """
    head = plain_head(model)
    if not isinstance(head, ChunkedHead):
        head = ChunkedHead.of(head, chunk=chunk)
    return head(hidden, labels, scores_by=chunk)


def plain_head(model: PreTrainedModel) -> nn.Module:
    """Return the head of a model whose logits are what it gives and nothing else."""
    cap = getattr(model.config, "final_logit_softcapping", None)
    if cap is not None:
        raise TrainError(
            f"model: logits must be what the head gives, got final_logit_softcapping {cap}, which the loss "
            "would leave out; set it to null in the model's config.json if it was trained without"
        )
    return model.lm_head


def hidden_states(
    model: PreTrainedModel, tokens: Tensor, positions: Tensor, lengths: Tensor | None, attend: object
) -> Tensor:
    """Run the decoder on a span [B, S]; no cache and no 2-D mask, either would let documents leak."""
    decoder = model.base_model
    out = decoder(input_ids=tokens, position_ids=positions, lengths=lengths, use_cache=False, attend=attend)
    return out.last_hidden_state
