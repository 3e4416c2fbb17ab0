"""Documents -> tokens -> mixture -> packs.

spec.py       what the `data:` section of a recipe may say; registry.py: plug-ins by name
sources/      raw documents, one file a kind
encoding/     text to ids
corpus/       one tokenised corpus, split into train and held-out
mixing/       which documents, how often, and what is made of them
packing/      which pieces share a pack, and where they stand in it
prepare.py    the verb: all of that to a plan's folder
plan.py       sample number -> tokens, positions, labels, groups; the same for a plain Trainer
coverage.py   which distances and documents the plan trains
preview.py    what prepare would make, told from a sample (sampling.py)
counts.py     what was left out, by reason; whole.py: files and folders that are whole or absent
"""

from .corpus.check import check_store
from .corpus.manifest import read_manifest, restamped
from .corpus.store import Document, Documents, open_documents
from .corpus.work import Task
from .coverage import Bucket, Octave, attention_cost, beyond, buckets, coverage
from .encoding.encoder import Encoder, load_encoder
from .encoding.training import train_tokenizer
from .errors import DataError
from .mixing.synthetic import Facts, Needle, plant
from .plan import Pack, PackDataset, Plan, Segment, Window, open_plan
from .prepare import PrepareReport, find_plan, merge_tasks, peek, prepare, prepare_task
from .preview import preview
from .sampling import sampled
from .spec import DataSpec, FactsSource, FilesSource, LongShare, RepeatsSource

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
    "restamped",
    "sampled",
    "train_tokenizer",
]
