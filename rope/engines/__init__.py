"""engines: who will compute what from a folder, and who can serve a scheme?

reader.py        what a reader is, and the formulas that readers share
transformers.py  transformers 5 and 4.57 by their rules
installed.py     the installed transformers itself, asked; nothing else here loads it
vllm.py sglang.py llama_cpp.py   the engines' own rules
serving.py       a scheme against every engine: exact, different or not served, and the config to write
trained.py       what a folder's weights were trained with, and what a reading has otherwise
faults.py        what is wrong with a config, and the fewest changes that cure it
verify.py        a whole folder: every reader, every fault
"""

from .reader import CannotRead, Question, Reader, Reading
from .serving import ENGINES, READERS, Serving, serving, serving_warnings
from .verify import FolderReport, Row, verify_folder

__all__ = [
    "ENGINES",
    "READERS",
    "CannotRead",
    "FolderReport",
    "Question",
    "Reader",
    "Reading",
    "Row",
    "Serving",
    "serving",
    "serving_warnings",
    "verify_folder",
]
