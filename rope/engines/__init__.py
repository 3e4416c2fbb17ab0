"""engines: who will compute what from a folder, and who can serve a scheme?

reader.py        what a reader is, and the formulas that readers share
transformers.py  transformers 5 and 4.57 by their rules
installed.py     the installed transformers itself, asked; nothing else here loads it
vllm.py sglang.py tensorrt_llm.py llama_cpp.py   the engines' own rules
serving.py       a scheme against every engine: exact, different or not served, and the config to write
trained.py       what a folder's weights were trained with, and what a reading has otherwise
texts.py         the texts of a folder, and whether their values are any that can be computed with
weights.py       its weight files, by their headers
tensors.py       which tensors a model of each type has
faults.py        what is wrong with a config, and the fewest changes that cure it
verify.py        a whole folder: every reader, every fault
"""

from .reader import CannotRead, Question, Reader, Reading
from .serving import ENGINES, READERS, Serving, serving, serving_warnings
from .texts import Texts, read_texts, text_problems, tokenizer_faults
from .verify import FolderReport, Row, verify_folder
from .weights import missing_weights, weight_problems

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
    "Texts",
    "missing_weights",
    "read_texts",
    "serving",
    "serving_warnings",
    "text_problems",
    "tokenizer_faults",
    "verify_folder",
    "weight_problems",
]
