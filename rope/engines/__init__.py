"""readers: who will compute what from a folder, and who can serve a scheme?

reading.py         what a reader is, and the formulas readers share
transformers_5.py  the installed transformers, asked
transformers_4.py  transformers 4.57 and all that ask `config.rope_theta`
vllm.py sglang.py llama_cpp.py   the engines' own rules
serving.py         a scheme against every engine: exact, different or not served, and the config to write
trained.py         what a folder's weights were trained with, and how far a reading is from it
faults.py          what is wrong with a config, with the cure
folder.py          a whole folder: every reader, every fault
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
