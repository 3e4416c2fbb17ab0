"""Which error the recipes room raises for people."""

from collections.abc import Iterable


class RecipeError(ValueError):
    """Say what a person must change: `<where>: <what must hold>, got <value>; <cure>`."""


def raise_all(where: str, problems: Iterable[str]) -> None:
    """Raise one error that lists all problems, each once, if there are any."""
    lines = [f"{where}: {problem}" for problem in dict.fromkeys(problems)]
    if lines:
        raise RecipeError("\n".join(lines))
