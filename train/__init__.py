"""Train: one step of a model whose packs are spread over ranks, and the run made of such steps.

settings             what a recipe says of training; of one stage what the loop needs
layout, mesh         who holds which tokens; the process groups of that on this rank
attention/           all-to-all around one attention kernel inside groups
loss, score          chunked next-token loss for training; token scores for evaluation
engine, state        DeepSpeed, told nothing of sequence parallelism; optimizer state free of layout
batch, schedule      packs and learning rate as pure functions of the step
model, loop          a model ready to train; stages, steps, metrics
checkpoint, convert/ a folder that a run resumes from; the same as a Hugging Face folder
progress             where a run stands, as its checkpoint says
storage, shards      files that are whole or absent; folders of tensors likewise

What needs torch is imported from its own file, so that a recipe is checked without.
"""

from .errors import TrainError
from .layout import Layout, legal_sequences
from .settings import Stage

__all__ = ["Layout", "Stage", "TrainError", "legal_sequences"]
