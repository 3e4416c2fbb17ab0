"""Numbers about schemes start at once: what they load is neither torch nor transformers."""

import importlib
import subprocess
import sys

import pytest

from ropewalk import rope

BASE = """
from ropewalk.rope import SCHEMES, Base, make_scheme
base = Base(head_dim=64, rotary_dim=64, theta=1e4, original_length=512, trained_length=512, query_heads=8,
            kv_heads=2, current=make_scheme("default"))
made = {name: make_scheme(name) for name in SCHEMES}
"""
CONFIG = {"model_type": "llama", "max_position_embeddings": 2048, "rope_theta": 5e5, "hidden_size": 256}
CONFIG |= {"num_attention_heads": 4, "num_key_value_heads": 2}
LIGHT = {
    "the package": "import ropewalk.rope",
    "frequencies": BASE + "for one in made.values(): one.frequencies(base, target_length=4096).fingerprint",
    "a config": f"from ropewalk.rope import read_base; read_base({CONFIG})",
    "serving": BASE
    + """
from ropewalk.rope.engines import ENGINES, serving
for one in made.values():
    for engine in ENGINES:
        serving(one, base, target_length=4096, engine=engine)
""",
    "analysis": BASE
    + """
from ropewalk.rope import analyse, attention_decay, base_lower_bound
for one in made.values():
    frequencies = one.frequencies(base, target_length=4096)
    analyse(frequencies, base, target_length=4096)
    attention_decay(frequencies, __import__("numpy").arange(9))
base_lower_bound(64, 1024)
""",
    "the search": "import ropewalk.rope.search",
}


@pytest.mark.parametrize("name", LIGHT)
def test_it_loads_neither_torch_nor_transformers(name: str) -> None:
    code = f"import sys\n{LIGHT[name]}\nprint(*{{module.split('.')[0] for module in sys.modules}})"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    loaded = set(out.stdout.split())
    assert "ropewalk" in loaded, out.stderr
    assert not loaded & {"torch", "transformers"}


def test_what_needs_them_is_there_by_name() -> None:
    """Also after its module was imported, whose name must not hide it."""
    importlib.import_module("ropewalk.rope.installation")
    assert all(getattr(rope, name) is not None for name in rope.__all__)
    assert {name for names in rope.LATER.values() for name in names} <= set(rope.__all__)
    assert callable(rope.install)
    with pytest.raises(AttributeError, match="instal"):
        _ = rope.instal  # pyright: ignore[reportAttributeAccessIssue]
