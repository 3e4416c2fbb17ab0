"""The verbs, one thin script each, and the recipes they run."""

import sys
from pathlib import Path

# `torchrun recipes/evaluate.py` puts this folder first on sys.path, where evaluate.py would shadow Hugging
# Face's `evaluate`. Every script imports from this package first, so here is the place to take it off.
sys.path[:] = [
    entry for entry in sys.path if not entry or Path(entry).resolve() != Path(__file__).resolve().parent
]
