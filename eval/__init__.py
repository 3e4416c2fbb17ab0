"""eval: what did a longer window gain, and what did it cost?

task, tasks/   what a measurement is; one file each: position_loss, context_gain, needles
haystack       which held-out documents, and how a needle is hidden in them
forwards, run  rows over data ranks; every task on every model -> Evaluation
paired, result intervals by resampling documents; values per item, their scores, what may be compared
fitness        what a scheme costs, document by document; what `rope search` pays for
report/        several evaluations side by side: tables, words, pictures, the page

What needs torch (forwards, run, fitness, report/write) is imported from its own file: a recipe's tasks are
checked, and a result is read, without.
"""

from . import tasks
from .errors import EvalError
from .paired import Interval, mean_interval, paired_difference, proportion_interval
from .result import Cell, Evaluation, Result, Score, Words
from .task import TASKS, Context, Subject, Task, make_task, task

__all__ = [
    "TASKS",
    "Cell",
    "Context",
    "EvalError",
    "Evaluation",
    "Interval",
    "Result",
    "Score",
    "Subject",
    "Task",
    "Words",
    "make_task",
    "mean_interval",
    "paired_difference",
    "proportion_interval",
    "task",
    "tasks",
]
