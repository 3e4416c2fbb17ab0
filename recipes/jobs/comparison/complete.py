"""What does any recipe say, that of a comparison too, with every default and every knob written out?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ...language.compose import compose, load, refuse
from ...language.schema import draft, written_out
from .recipe import UNSCALED, read_section


def complete(recipe: str, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Compose and type a recipe, and write it out; what comes is a recipe that says the same."""
    values = compose(recipe, overrides)
    if "compare" not in values:
        return written_out(load(recipe, overrides))
    section, problems = read_section(values.pop("compare"))
    shared = draft(UNSCALED | values)
    refuse(recipe, overrides, [*problems, *shared.problems])
    whole = written_out(shared.stages[0])
    del whole["rope"]
    return whole | {"compare": written_out(section)}
