"""What the training room refuses, and how a message shows a value or a known name."""

from collections.abc import Iterable
from difflib import get_close_matches


class TrainError(ValueError):
    """Refuse a setting, a checkpoint or a run: `<where>: <what must hold>, got <value>; <cure>`."""


def shown(value: object) -> str:
    """Show a value in a message without flooding it."""
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def nearest(name: str, known: Iterable[str]) -> str:
    """Point at the known name most like this one, or list all of them."""
    names = [str(known_name) for known_name in known]
    close = get_close_matches(str(name), names, n=1, cutoff=0.6)
    return f"did you mean '{close[0]}'?" if close else f"known: {', '.join(sorted(names))}"
