"""rope: where does a token stand? Schemes as pure functions, and the one place where q and k are turned.

    base.py       what a model brings: `Base`
    scheme.py     what a scheme is: `Scheme`, `Frequencies`, the registry, `make_scheme`
    schemes/      one file a scheme, found by being there
    families.py   the models we handle, and what their configs leave unsaid
    factors.py    files of LongRoPE factors, our own and published ones
    container.py  any static frequencies in words that every reader knows
    stretch.py    `at_stretch`: schemes at the same effective scale
    hf.py         Hugging Face's configs: `read_base` in, `config_fields` out
    rotation.py   exact angles, and the turn of q and k
    bands.py      schemes that change relative positions: bands of keys, in tiles (tiles.py)
    attention.py  the attention function that transformers calls, and its mask that is not built
    requests.py   schemes that depend on the length, outside of training: each request by its own
    readers/      what transformers, vLLM, SGLang and llama.cpp compute from a folder
    search/       factors found by measuring: spaces, ledger, the published search and ours
    install.py    `install` a scheme on a loaded model; `installed` says which
    analysis.py   what a scheme does to a model's frequencies, in numbers to look at

Imports torch and transformers, nothing else of ours.
"""

from . import schemes
from .analysis import Analysis, analyse, attention_decay, base_lower_bound, critical_dimension
from .bands import AttentionScheme, BandedAttention
from .base import Base, RopeError
from .factors import Factors, read_factors, write_factors
from .families import FULL, SLIDING
from .hf import config_fields, read_base
from .hook import LazyMask
from .install import Installed, install, installed, layer_fingerprint, stated_lengths
from .rotation import Rotary, Table, rotate, rotation_table
from .scheme import SCHEMES, Frequencies, NotExpressible, Scheme, make_scheme
from .stretch import at_stretch

__all__ = [
    "FULL",
    "SCHEMES",
    "SLIDING",
    "Analysis",
    "AttentionScheme",
    "BandedAttention",
    "Base",
    "Factors",
    "Frequencies",
    "Installed",
    "LazyMask",
    "NotExpressible",
    "RopeError",
    "Rotary",
    "Scheme",
    "Table",
    "analyse",
    "at_stretch",
    "attention_decay",
    "base_lower_bound",
    "config_fields",
    "critical_dimension",
    "install",
    "installed",
    "layer_fingerprint",
    "make_scheme",
    "read_base",
    "read_factors",
    "rotate",
    "rotation_table",
    "schemes",
    "stated_lengths",
    "write_factors",
]
