"""ropewalk: give a pretrained language model a longer window, and measure what that gained and cost.

rope/     position: schemes as pure functions, and the one place where queries and keys are rotated
data/     documents -> tokens -> mixture -> packs
train/    who holds which tokens, attention kernels, losses, the engine, the loop, checkpoints, conversion
eval/     loss by position, needles, paired statistics, the report
recipes/  the verbs (`ropewalk VERB`, or `torchrun recipes/VERB.py`) and the YAML files they run

Imports run one way: rope and data import nothing of ours, train imports those two, eval imports train as
well, recipes imports all.
"""

__version__ = "0.1.0.dev0"
