"""eval: what did a longer window gain, and what did it cost?

task, tasks/        what a measurement is; one file each: position_loss, context_gain, needles
documents, prompts  which held-out documents; how a needle is hidden in them
forwards, run       items over data ranks; every task on every model -> Evaluation
paired, result      intervals by resampling documents; cells of values per item and their scores
compare, wording    several evaluations side by side; the numbers in words
ranking             which of several is better, and which cannot be told apart
fitness             what a scheme costs, document by document; what `rope search` pays for
figures, page, report  pictures, the page, the files
"""

from . import tasks
from .errors import EvalError
from .paired import Interval, mean_interval, paired_difference, proportion_interval
from .report.compare import build_report
from .report.report import read_report, write_report
from .report.wording import sentences, summary_rows
from .result import Cell, Result, Score
from .run import Evaluation, evaluate, model_fingerprint
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
    "build_report",
    "evaluate",
    "make_task",
    "mean_interval",
    "model_fingerprint",
    "paired_difference",
    "proportion_interval",
    "read_report",
    "sentences",
    "summary_rows",
    "task",
    "tasks",
    "write_report",
]
