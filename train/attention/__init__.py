"""attention: every token of a pack meets those of its group, whichever ranks hold them.

grouped   what the model calls, micro-batch by micro-batch
exchange  all-to-all between tokens and heads; keys, values and their gradients between ranks of other tokens
reach     which blocks of keys a chunk's queries meet, and which of its keys later chunks do
tiles     the squares and rectangles of one block in which they meet
blocks    attention over the blocks, merged by log-sum-exp: one autograd function
pairs     forward and backward of a kernel on tiles
kernels   the kernels by name
store     where keys, values and gradients of other chunks wait
"""
