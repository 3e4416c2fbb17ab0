"""Documents -> tokens -> mixture -> packs.

spec.py      what the `data:` section of a recipe may say
sources/     which files are documents; facts.py, repeats.py: documents that are made
tokenise.py  text to ids; tokenizer.py trains a tiny tokenizer
corpus.py    one tokenised corpus, without near-duplicates, split into train and held-out
store.py     the file format, memory-mapped, whole or absent
mixture.py   which documents, how often; made.py writes the procedural ones
pack.py      which pieces share a pack; tables.py lays them out; planning.py writes a plan's folder
plan.py      sample number -> tokens, positions, labels, groups
coverage.py  which distances the plan trains
prepare.py   the verb
"""

from .checking import check_store
from .corpus.manifest import read_manifest
from .corpus.store import Document, Documents, open_documents
from .corpus.work import Task
from .coverage import Bucket, Octave, attention_cost, beyond, buckets, coverage
from .dataset import PackDataset
from .encoding.encoder import Encoder, load_encoder
from .encoding.training import train_tokenizer
from .errors import DataError
from .mixing.facts import Facts, Needle, plant
from .mixing.spec import FactsSource, LongShare, RepeatsSource
from .peek import peek
from .plan import Pack, Plan, Segment, Window, open_plan
from .prepare import PrepareReport, find_plan, merge_tasks, prepare, prepare_task
from .preview import preview
from .spec import DataSpec, FilesSource

__all__ = [
    "Bucket",
    "DataError",
    "DataSpec",
    "Document",
    "Documents",
    "Encoder",
    "Facts",
    "FactsSource",
    "FilesSource",
    "LongShare",
    "Needle",
    "Octave",
    "Pack",
    "PackDataset",
    "Plan",
    "PrepareReport",
    "RepeatsSource",
    "Segment",
    "Task",
    "Window",
    "attention_cost",
    "beyond",
    "buckets",
    "check_store",
    "coverage",
    "find_plan",
    "load_encoder",
    "merge_tasks",
    "open_documents",
    "open_plan",
    "peek",
    "plant",
    "prepare",
    "prepare_task",
    "preview",
    "read_manifest",
    "train_tokenizer",
]
