"""eval: what did a longer window gain, and what did it cost?

task, tasks/   what a measurement is; one file each: position_loss, context_gain, needles
haystack       which held-out documents; prompts: how a needle is hidden in them
forwards, run  items over data ranks; every task on every model -> Evaluation
paired, result intervals by resampling documents; cells of values per item and their scores
fitness        what a scheme costs, document by document; what `rope search` pays for
report/        several evaluations side by side: tables, words, pictures, the page

What needs torch is imported from its own file, so that a recipe is checked without.
"""

from . import tasks
from .errors import EvalError
from .paired import Interval, mean_interval, paired_difference, proportion_interval
from .result import Cell, Result, Score
from .task import TASKS, Context, Subject, Task, make_task, task

__all__ = [
    "TASKS",
    "Cell",
    "Context",
    "EvalError",
    "Interval",
    "Result",
    "Score",
    "Subject",
    "Task",
    "make_task",
    "mean_interval",
    "paired_difference",
    "proportion_interval",
    "task",
    "tasks",
]
