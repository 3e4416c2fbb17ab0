"""attention: every token of a pack meets those of its group, whichever ranks hold them.

ulysses   all-to-all: token shards to head shards and back
kernels   causal attention inside groups, one function a kernel
"""
