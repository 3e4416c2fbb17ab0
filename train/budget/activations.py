"""How many bytes of activations does a token leave? Counted by what autograd keeps of one decoder layer.

H hidden, F intermediate, D head_dim, Q query heads, K kv heads (as many as ranks divide the heads where these
are more), w bytes of a value. A layer of Llama keeps, of each token,

    norms       2 (4 + 2w) H     input in float32, normalised, and what the matrices after it read
    attention   w D (2Q + 2K) + 4Q         result, q, k, v, log-sum-exp; the result twice where ranks
                                           divide the heads: by heads and by tokens
    MLP         4 w F            gate, its activation, up, and their product

Held against a trace of torch's MemTracker at 8B and 70B shapes: to the byte where everything is kept, 10 %
for what backward needs beside (tests/train/budget/test_traced.py).
"""

from __future__ import annotations

from .shape import FUSED, HEAD_NORMS, SANDWICHED, Shape

FLOAT32 = 4


def norms_kept(shape: Shape, width: int) -> int:
    """Bytes a token that the norms of one layer keep for backward."""
    hidden, float32 = shape.hidden, FLOAT32
    inner = (shape.query_heads + shape.kv_heads) * shape.head_dim
    scales = float32 * shape.norms  # one number a norm and token
    if shape.model_type in SANDWICHED:  # two are read by matrices, two are added to what came in
        before, after = 2 * float32 + width, 2 * float32
        kept, of_heads = 2 * (before + after) * hidden, 2 * float32
    else:
        kept, of_heads = 2 * (float32 + 2 * width) * hidden, float32 + width
    if shape.model_type in HEAD_NORMS:
        kept += of_heads * inner
        scales += float32 * (shape.query_heads + shape.kv_heads)
    return kept + scales


def attention_kept(shape: Shape, width: int, heads: int = 1) -> int:
    """Bytes a token that attention keeps where `heads` ranks divide the heads: q, k, v, results.

    What attention gives lies by tokens, as the matrix after it reads it, unless ranks trade it or one matrix
    made q, k and v, of whose product v is then a view and keeps all.
    """
    keys = max(shape.kv_heads, heads) * shape.head_dim
    kept = width * (shape.query_width + 2 * keys) + result_kept(shape, width)
    if heads > 1 or shape.model_type in FUSED:
        kept += width * shape.query_width
    if heads == 1 and shape.model_type in FUSED:
        kept += width * (shape.query_width + keys)
    return kept


def result_kept(shape: Shape, width: int) -> int:
    """Bytes a token of what attention gives: output and log-sum-exp."""
    return width * shape.query_width + FLOAT32 * shape.query_heads


def mlp_kept(shape: Shape, width: int) -> int:
    """Bytes a token that a gated MLP keeps."""
    return 4 * width * shape.intermediate


def layer_kept(shape: Shape, width: int, heads: int = 1) -> int:
    """Bytes a token that one layer keeps for its backward."""
    return norms_kept(shape, width) + attention_kept(shape, width, heads) + mlp_kept(shape, width)


def layer_working(shape: Shape, width: int, heads: int = 1) -> int:
    """Bytes a token that one layer's backward needs beside what it kept: the more of its two halves.

    By the MLP's, the gradients of its three products; by attention's, when the MLP's are gone, the float32
    sums of gradients and the messages of the all-to-all.
    """
    hidden, queries = shape.hidden, shape.query_width
    keys = 2 * max(shape.kv_heads, heads) * shape.head_dim
    mlp = 2 * width * shape.intermediate + (FLOAT32 + width) * hidden
    messages = 2 * width * (queries + keys) if heads > 1 else 0
    attention = (FLOAT32 + 2 * width) * queries + (FLOAT32 + width) * keys + messages
    freed = mlp_kept(shape, width) + norms_kept(shape, width) // 2
    return max(mlp, attention - freed)


def ends_kept(shape: Shape) -> int:
    """Bytes a token of what all layers share: the table of cos and sin, and four whole numbers."""
    return FLOAT32 * shape.head_dim + 4 * 8


def last_norm(shape: Shape, width: int) -> int:
    """Bytes a token that the norm behind all layers keeps."""
    alike = (2 * FLOAT32 + width) if shape.model_type in SANDWICHED else FLOAT32 + 2 * width
    return alike * shape.hidden


def final_norm(shape: Shape, width: int) -> int:
    """Bytes a token that it keeps, and needs in its backward."""
    return (FLOAT32 + 2 * width) * shape.hidden + 5 * FLOAT32 * shape.hidden
