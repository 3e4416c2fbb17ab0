"""How are the numbers of a report said: in cells of a table, and in sentences?"""

from collections.abc import Mapping
from typing import Any

Row = Mapping[str, Any]


def number(value: float, unit: str) -> str:
    """Write a value: nats with three digits, a share in percent."""
    return f"{100 * value:.0f} %" if unit == "fraction" else f"{value:.3f}"


def signed(value: float, unit: str) -> str:
    return f"{100 * value:+.0f} pp" if unit == "fraction" else f"{value:+.3f}"


def with_interval(row: Row, unit: str) -> str:
    if unit == "fraction":
        return f"{100 * row['value']:.0f} % [{100 * row['low']:.0f}, {100 * row['high']:.0f}]"
    return f"{row['value']:.3f} [{row['low']:.3f}, {row['high']:.3f}]"


def gain_with_interval(row: Row, unit: str) -> str:
    """Write a gain with its interval, and say so where it cannot be told from zero."""
    scale, digits = (100, 0) if unit == "fraction" else (1, 3)
    low, high = (f"{scale * row[end]:+.{digits}f}" for end in ("low", "high"))
    hedge = "" if row["distinguishable"] else " n.d."
    return f"{signed(row['value'], unit)} [{low}, {high}]{hedge}"


def subject_of(row: Row, label: str) -> str:
    """Name what a summary row measures."""
    if row["lengths"]:
        low, high = row["lengths"][0], row["lengths"][-1]
        return (
            f"{label}, prompts of {low} tokens" if low == high else f"{label}, prompts of {low}-{high} tokens"
        )
    part = f", {row['part']}" if row["part"] else ""
    name = "loss" if row["part"] else label
    return f"{name}{part}, positions {row['start']}-{row['stop']}"


def sentence(row: Row, report: Row) -> str:
    """Say in words what one row of the summary found: the reference first, then each model's gain over it."""
    task = report["tasks"][row["task"]]
    unit, reference = task["unit"], report["reference"]
    counted = "needles" if row["lengths"] else "documents"
    n = next(iter(row["gains"].values()))["n"]
    said = [measured(reference, row, unit)] if reference not in row["gains"] else []
    said += [compared(model, row, unit) for model in row["gains"]]
    against = reference if row["part"] == row["against"] else f"{reference} with its {row['against']}"
    return f"{subject_of(row, task['label'])} ({n} {counted}, against {against}): {'; '.join(said)}."


def measured(model: str, row: Row, unit: str) -> str:
    return f"{model} {number(row['values'][model]['value'], unit)}"


def compared(model: str, row: Row, unit: str) -> str:
    """Say one gain: better or worse by how much, or that it cannot be told from zero."""
    gained = row["gains"][model]
    low, high = signed(gained["low"], unit), signed(gained["high"], unit)
    if not gained["distinguishable"]:
        return f"{measured(model, row, unit)}, not distinguishable (gain {low} to {high})"
    size = signed(abs(gained["value"]), unit).lstrip("+") + (" nats" if unit == "nats" else "")
    verdict = "better" if gained["value"] > 0 else "worse"
    return f"{measured(model, row, unit)}, {size} {verdict} (gain {low} to {high})"


def sentences(report: Row) -> list[str]:
    """Say the summary in words, a sentence for each row that compares something."""
    return [sentence(row, report) for row in report["summary"] if row["gains"]]


def summary_rows(report: Row) -> list[list[str]]:
    """Return the summary as rows of text: a head with the models' names, then values and gains."""
    models = [m["name"] for m in report["models"]]
    rows = [["", *models]]
    for row in report["summary"]:
        task = report["tasks"][row["task"]]
        values, gains, unit = row["values"], row["gains"], task["unit"]
        rows.append(
            [
                subject_of(row, task["label"]),
                *(with_interval(values[m], unit) if m in values else "-" for m in models),
            ]
        )
        if gains:
            versus = row["against"] if row["part"] != row["against"] else report["reference"]
            cells = (gain_with_interval(gains[m], unit) if m in gains else "-" for m in models)
            rows.append([f"  gain over {versus}", *cells])
    return rows
