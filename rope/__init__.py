"""rope: where does a token stand? Schemes as pure functions, and the one place where q and k are turned.

    scheme.py        what a model brings, `Base`; what a scheme is, `Scheme`, `Frequencies`; `make_scheme`
    knobs.py         which numbers a knob or a config may hold, and how a wrong one is said
    relative.py      schemes that change relative positions: bands of keys
    schemes/         one file a scheme, found by being there
    families.py      the models we handle, and what their configs leave unsaid
    keys.py          keys of a config that change attention: read, harmless or refused
    factors.py       files of LongRoPE factors, our own and published ones
    hf.py            Hugging Face's configs: `read_base` in, `config_fields` out
    fields.py        their values, of their types and within bounds
    layouts.py       their rope parameters, in whichever layouts
    original.py      the window that was pretrained: stated, or a guess that nothing new is computed from
    analysis.py      what a scheme does to a model's frequencies, in numbers; `at_stretch`
    record.py        what a model was given, and its fingerprint
    admission.py     may a model be given a scheme?
    search/          factors found by measuring: spaces, ledger, the published search and ours
    engines/         what transformers and four engines compute from a folder

Up to here numbers are numpy's. What meets a model needs torch and transformers, and is loaded when it is
asked for by name:

    rotation.py      exact angles, and the turn of q and k
    bands.py         attention by bands, in tiles (tiles.py)
    hook.py          the attention function that transformers calls, and its mask that is not built
    generation.py    schemes that depend on the length, outside of training: each request by its own
    installation.py  `install` a scheme on a loaded model; `installed` says which

Imports nothing else of ours.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from . import schemes
from .admission import refusals
from .analysis import (
    Analysis,
    analyse,
    at_stretch,
    attention_decay,
    base_lower_bound,
    critical_dimension,
)
from .factors import Factors, read_factors, write_factors
from .families import FULL, SLIDING
from .hf import config_fields, read_base
from .record import Installed
from .relative import AttentionScheme
from .scheme import (
    SCHEMES,
    Base,
    Frequencies,
    NotExpressible,
    RopeError,
    Scheme,
    make_scheme,
    validate_scheme,
)

if TYPE_CHECKING:
    from .bands import BandedAttention
    from .hook import LazyMask
    from .installation import install, installed, layer_fingerprint, stated_lengths
    from .rotation import Rotary, Table, rotate, rotation_table

LATER = {
    "bands": ("BandedAttention",),
    "hook": ("LazyMask",),
    "installation": ("install", "installed", "layer_fingerprint", "stated_lengths"),
    "rotation": ("Rotary", "Table", "rotate", "rotation_table"),
}
"names by the module that is loaded when one of them is asked for: these need torch or transformers"

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
    "refusals",
    "rotate",
    "rotation_table",
    "schemes",
    "stated_lengths",
    "validate_scheme",
    "write_factors",
]


def __getattr__(name: str) -> Any:
    for module, names in LATER.items():
        if name in names:
            return getattr(import_module(f".{module}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
