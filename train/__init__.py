"""Train: one step of a model whose packs are spread over ranks, and the run made of such steps.

layout, mesh         who holds which tokens; the process groups of that on this rank
attention, kernels   all-to-all around one attention kernel inside groups
loss, score          chunked next-token loss for training; token scores for evaluation
engine, state        DeepSpeed, told nothing of sequence parallelism; optimizer state free of layout
batch, schedule      packs and learning rate as pure functions of the step
loop, checkpoint     stages, metrics, atomic checkpoints, resume
recipe, convert      the typed recipe; a checkpoint as a Hugging Face folder
"""

from .errors import TrainError
from .layout import Layout, legal_degrees
from .mesh import Mesh, in_world, join_world, leave_world
from .recipe import Recipe, stages
from .score import TokenScores, token_scores

__all__ = [
    "Layout",
    "Mesh",
    "Recipe",
    "TokenScores",
    "TrainError",
    "in_world",
    "join_world",
    "leave_world",
    "legal_degrees",
    "stages",
    "token_scores",
]
