"""How is it laid out what every reader computes from a folder?"""

from __future__ import annotations

from typing import Any

from rich.console import Console

from ...rope.engines import FolderReport
from ...rope.scheme import Guess, listed
from .console import print_table

COLUMNS = {
    "theta": ("theta", ",.10g"),
    "kind": ("kind", ""),
    "factor": ("factor", ".6g"),
    "attention_scale": ("scale", ".5g"),
    "window": ("window", ","),
    "angle_error_at_trained": ("angle error", ".1e"),
    "angle_error_at_target": ("at target", ".1e"),
}
"what is shown of a row, its head and its format"


def as_values(report: FolderReport) -> dict[str, Any]:
    """Give the report as JSON values; logits are `convert`'s to compare."""
    return {
        "verified": report.verified,
        "checks": report.checks(),
        "max_logit_difference": None,
        "trained": _trained(report),
        "readers": [row.facts() for row in report.rows],
        "faults": list(report.faults),
        "notes": list(report.notes),
    }


def print_report(report: FolderReport, console: Console) -> None:
    """Print what was trained, a row a reader, what differs, and the faults."""
    if report.rows:
        _print_trained(report, console)
        _print_readers(report, console)
    else:
        console.print("no reader is asked: values are wrong that all of them compute with")
    for row in report.rows:
        is_fault = any(f.startswith(f"{row.reader.name}:") and row.why in f for f in report.faults)
        why = f" {row.why}" if row.why else ""
        start = " start it with " + " ".join(row.flags) if row.flags else ""
        if start or (why and not is_fault):
            console.print(f"{row.reader.name}:{';'.join(filter(None, (why, start)))}", markup=False)
    for line in (*report.notes, *(f"FAULT {fault}" for fault in report.faults)):
        console.print(line, markup=False)
    console.print(f"{report.folder}: {'verified' if report.verified else 'NOT verified'}", markup=False)


def _trained(report: FolderReport) -> dict[str, Any] | None:
    """Give what the weights were trained with, that all readings are compared with."""
    if (trained := report.trained) is None:
        return None
    base = next(iter(trained.bases.values()))
    return {
        "told_by": trained.told_by,
        "scheme": trained.scheme.name,
        "knobs": trained.scheme.knobs,
        "theta": base.theta,
        "original_length": base.stated_length,
        "original_length_may_be": dict(base.guesses),
        "trained_length": trained.target_length,
    }


def _print_trained(report: FolderReport, console: Console) -> None:
    if (trained := _trained(report)) is None:
        console.print("trained with: not known, the config does not say it without contradiction")
        return
    original = trained["original_length"]
    console.print(
        f"trained with: {trained['scheme']}, theta {trained['theta']:,.10g}, original length "
        f"{f'{original:,}' if original else 'not certain'}, up to {trained['trained_length']:,} tokens "
        f"(says {trained['told_by']})",
        markup=False,
    )
    if original is None:
        may_be = listed(Guess(*pair) for pair in trained["original_length_may_be"].items())
        console.print(f"original length: {may_be}; state it to extend this model", markup=False)


def _print_readers(report: FolderReport, console: Console) -> None:
    """Print a row a reader and layer type; the error at the target only where that is not the trained one."""
    if not report.rows:
        return
    several = len({row.layer_type for row in report.rows}) > 1
    shorter = report.trained is not None and report.target_length != report.trained.target_length
    columns = {name: column for name, column in COLUMNS.items() if shorter or name != "angle_error_at_target"}
    rows = []
    for row in report.rows:
        facts = row.facts()
        cells = (_shown(facts[name], form) for name, (_, form) in columns.items())
        layers = f" {row.layer_type}" if several else ""
        rows.append((row.reader.name + layers, row.reader.how, *cells, row.verdict))
    print_table(("reader", "", *(head for head, _ in columns.values()), ""), rows, console)


def _shown(value: Any, form: str) -> str:
    return "-" if value is None else format(value, form)
