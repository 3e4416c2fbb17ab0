"""How are the numbers of a report said: in cells of a table, and in sentences?"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

Row = Mapping[str, Any]
GAIN, UNSURE = "  gain over ", " n.d."


@dataclass(frozen=True, kw_only=True)
class Unit:
    """How a unit is written: values times `scale`, with `digits`, and what follows a value or a gain."""

    scale: int = 1
    digits: int = 3
    value: str = ""
    gain: str = ""
    size: str = ""
    "what follows a gain that is said without its sign"
    axis: str = ""
    "what stands at an axis"

    def number(self, value: float) -> str:
        return f"{self.scale * value:.{self.digits}f}{self.value}"

    def signed(self, value: float) -> str:
        return f"{self.scale * value:+.{self.digits}f}{self.gain}"

    def between(self, row: Row, sign: str = "") -> str:
        low, high = (f"{self.scale * row[end]:{sign}.{self.digits}f}" for end in ("low", "high"))
        return f"[{low}, {high}]"


UNITS = {
    "nats": Unit(size=" nats", axis="nats a token"),
    "fraction": Unit(scale=100, digits=0, value=" %", gain=" pp", axis="share"),
}


def unit_of(name: str) -> Unit:
    """Return how numbers of a unit are written; one that is not known is said after them."""
    return UNITS.get(name) or Unit(value=f" {name}", gain=f" {name}", axis=name)


def capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def listed(words: Iterable[str]) -> str:
    """Join different words: `documents and needles`."""
    return " and ".join(dict.fromkeys(words))


def with_interval(row: Row, unit: Unit) -> str:
    return f"{unit.number(row['value'])} {unit.between(row)}"


def gain_with_interval(row: Row, unit: Unit) -> str:
    """Write a gain with its interval, and say so where it cannot be told from zero."""
    hedge = "" if row["distinguishable"] else UNSURE
    return f"{unit.signed(row['value'])} {unit.between(row, '+')}{hedge}"


def subject_of(row: Row, task: Row) -> str:
    """Name what a pooled row of a task measures."""
    if row["lengths"]:
        low, high = row["lengths"][0], row["lengths"][-1]
        span = f"{low}" if low == high else f"{low}-{high}"
        return f"{task['label']}, prompts of {span} tokens"
    part = f", {row['part']}" if row["part"] else ""
    return f"{task['quantity']}{part}, positions {row['start']}-{row['stop']}"


def sentence(row: Row, report: Row) -> str:
    """Say in words what one row of the summary found: the reference first, then each model's gain over it."""
    task, reference = report["tasks"][row["task"]], report["reference"]
    unit = unit_of(task["unit"])
    n = next(iter(row["gains"].values()))["n"]
    said = [measured(reference, row, unit)] if reference not in row["gains"] else []
    said += [compared(model, row, unit) for model in row["gains"]]
    over = reference if row["part"] == row["against"] else f"{reference} with its {row['against']}"
    return f"{subject_of(row, task)} ({n} {task['items']}, against {over}): {'; '.join(said)}."


def ranking_sentence(row: Row) -> str:
    """Say one ranking in words, the best first."""
    unit = unit_of(row["unit"])
    said = [f"best {measured(row['best'], row, unit)}"]
    said += [compared(name, row, unit) for name in row["gains"]]
    return f"{subject_of(row, row)} ({row['n']} {row['items']}): {'; '.join(said)}."


def measured(model: str, row: Row, unit: Unit) -> str:
    return f"{model} {unit.number(row['values'][model]['value'])}"


def compared(model: str, row: Row, unit: Unit) -> str:
    """Say one gain: better or worse by how much, or that it cannot be told from zero."""
    gained = row["gains"][model]
    span = f"(gain {unit.signed(gained['low'])} to {unit.signed(gained['high'])})"
    if not gained["distinguishable"]:
        return f"{measured(model, row, unit)}, {unsure(gained)} {span}"
    size = unit.signed(abs(gained["value"])).lstrip("+") + unit.size
    verdict = "better" if gained["value"] > 0 else "worse"
    return f"{measured(model, row, unit)}, {size} {verdict} {span}"


def unsure(gained: Row) -> str:
    """Say why a gain is not told from zero: its interval holds zero, or too few items stand behind it."""
    signs = {value > 0 for value in gained.get("by_seed", [])}
    if gained["low"] <= 0 <= gained["high"] or len(signs) > 1:
        return "not distinguishable"
    return f"too few that differ ({gained.get('differing', gained['n'])}) to tell"


def sentences(report: Row) -> list[str]:
    """Say the summary in words, a sentence for each row that compares something."""
    return [sentence(row, report) for row in report["summary"] if row["gains"]]


def summary_rows(report: Row) -> Iterator[list[str]]:
    """Yield the summary as rows of text: a head with the models' names, then values and gains."""
    models = [m["name"] for m in report["models"]]
    yield ["", *models]
    for row in report["summary"]:
        task = report["tasks"][row["task"]]
        values, gains, unit = row["values"], row["gains"], unit_of(task["unit"])
        yield [
            subject_of(row, task),
            *(with_interval(values[m], unit) if m in values else "-" for m in models),
        ]
        if gains:
            over = row["against"] if row["part"] != row["against"] else report["reference"]
            cells = (gain_with_interval(gains[m], unit) if m in gains else "-" for m in models)
            yield [f"{GAIN}{over}", *cells]
