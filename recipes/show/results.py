"""How are the results of `evaluate` and `rope search` printed, from their JSON values alone?"""

from collections.abc import Mapping
from typing import Any

from rich.console import Console

from .console import print_table

Values = Mapping[str, Any]


def print_scores(evaluation: Values, console: Console) -> None:
    """Print every score with its interval."""
    knobs = "".join(f" {name}={value}" for name, value in evaluation["knobs"].items())
    console.print(
        f"{evaluation['model']}: {evaluation['scheme']}{knobs}, weights {evaluation['fingerprint'][:12]}, "
        f"corpus {evaluation['corpus'][:12]}, {evaluation['seconds']:.0f} s",
        markup=False,
    )
    head = ("task", "part", "positions", "depth", "value", "95 % interval", "n")
    print_table(head, map(_score, evaluation["scores"]), console)


def _score(score: Values) -> list[str]:
    return [
        score["task"],
        score["part"],
        f"{score['start']:,} to {score['length'] - 1:,}",
        "" if score["depth"] is None else f"{score['depth']:.2f}",
        f"{score['value']:.3f}",
        f"{score['low']:.3f} to {score['high']:.3f}",
        str(score["n"]),
    ]


def print_search(result: Values, console: Console) -> None:
    """Print the found vector beside the seeds, and what it cost."""
    on_both = f"searched on ({result['searched']})", f"held out ({result['checked']})"
    rows = ((row["name"], *_losses(row), _gain(row["gain"])) for row in result["rows"])
    print_table(("scheme", *on_both, "the found vector is better by"), rows, console)
    console.print(result["verdict"], markup=False)
    console.print(f"rope: {{kind: longrope, factors: {result['file']}}}", markup=False)


def _losses(row: Values) -> tuple[str, str]:
    return f"{row['searched']:.4f}", f"{row['held_out']:.4f}"


def _gain(gain: Values | None) -> str:
    if gain is None:
        return ""
    hedge = "" if gain["distinguishable"] else " not distinguishable"
    return f"{gain['estimate']:+.4f} [{gain['low']:+.4f}, {gain['high']:+.4f}]{hedge}"
