"""rope: where does a token stand? Schemes as pure functions, and the one place where q and k are turned.

    base.py       what a model brings: `Base`
    scheme.py     what a scheme is: `Scheme`, `Frequencies`, the registry, `make_scheme`
    schemes/      one file a scheme, found by being there
    hf.py         Hugging Face's configs: `read_base` in, `config_fields` out
    rotation.py   exact angles, and the turn of q and k
    attention.py  the attention function that transformers calls, and its mask that is not built
    install.py    `install` a scheme on a loaded model; `installed` says which

Imports torch and transformers, nothing else of ours.
"""

from . import schemes
from .attention import LazyMask
from .base import Base, RopeError
from .hf import config_fields, read_base
from .install import Installed, install, installed
from .rotation import Rotary, Table, rotate, rotation_table
from .scheme import SCHEMES, Frequencies, NotExpressible, Scheme, make_scheme

__all__ = [
    "SCHEMES",
    "Base",
    "Frequencies",
    "Installed",
    "LazyMask",
    "NotExpressible",
    "RopeError",
    "Rotary",
    "Scheme",
    "Table",
    "config_fields",
    "install",
    "installed",
    "make_scheme",
    "read_base",
    "rotate",
    "rotation_table",
    "schemes",
]
