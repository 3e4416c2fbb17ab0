"""What does a comparison say: its rankings, settings and choices as one plain report.

The report is a dictionary ready for JSON; tables, page and pictures are drawn from it alone. The values of
every document and needle stay in the results of the cells, which it names.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from rich.console import Console

from ....eval.report.ranking import rankings
from ....eval.report.schemes import measurements, settings_table
from ...show.console import print_table
from .cells import SELECTION, Comparison
from .outcome import Outcome, Outcomes
from .schemes import Contender

TRAINING_FREE, TRAINED = "training-free", "trained"
Report = dict[str, Any]


def build_report(
    comparison: Comparison, outcomes: Outcomes, *, command: str = "", date: str | None = None
) -> Report:
    """Rank the schemes at every factor, training-free and trained apart."""
    section, train = comparison.section, comparison.template.train
    cells = list(every_outcome(outcomes))
    return {
        "format": 1,
        "title": f"{len(section.schemes)} schemes on {comparison.model.name}",
        "date": date or datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "command": command,
        "weights": cells[0].depends_on["weights"],
        "corpus": cells[0].depends_on["corpus"],
        "original_length": comparison.base.original_length,
        "boundary": comparison.base.trained_length,
        "stretch": section.stretch,
        "factors": list(section.factors),
        "seeds": section.seeds,
        "train_tokens": train.steps * train.batch_tokens,
        "plans": plans(outcomes),
        "schemes": [scheme_row(comparison, outcomes, entry.label) for entry in section.schemes],
        "rankings": list(ranking_rows(comparison, outcomes)),
        "protocols": {name: result.protocol for name, result in cells[-1].evaluation.results.items()},
        "notes": list(notes(comparison, outcomes)),
        "cells": [cell_row(outcome) for outcome in cells],
    }


def every_outcome(outcomes: Outcomes) -> Iterator[Outcome]:
    for by_factor in (outcomes.training_free, outcomes.trained):
        for by_scheme in by_factor.values():
            for several in by_scheme.values():
                yield from several


def plans(outcomes: Outcomes) -> dict[str, list[str]]:
    """Give the plan of each factor and seed, and assert that all schemes were trained on it."""
    by_factor = {}
    for factor, by_scheme in outcomes.trained.items():
        used = {tuple(outcome.depends_on["plan"] for outcome in several) for several in by_scheme.values()}
        assert len(used) <= 1, (factor, used)
        by_factor[f"{factor:g}"] = list(next(iter(used), ()))
    return by_factor


def scheme_row(comparison: Comparison, outcomes: Outcomes, label: str) -> dict[str, Any]:
    """Describe how a scheme took part."""
    settings = {
        f"{factor:g}": next(setting(one) for one in contenders if one.label == label)
        for factor, contenders in comparison.contenders.items()
    }
    losses = outcomes.losses.get(label, {})
    return {
        "scheme": label,
        "trained": label in outcomes.rates,
        "learning_rate": outcomes.rates.get(label),
        "selection_losses": {f"{rate:g}": loss for rate, loss in losses.items()},
        "settings": settings,
    }


def setting(one: Contender) -> dict[str, Any]:
    return {
        "text": one.setting,
        "stretch": one.stretch,
        "matched": one.matched,
        "same_as": one.same_as,
        "knobs": one.scheme.knobs,
    }


def ranking_rows(comparison: Comparison, outcomes: Outcomes) -> Iterator[dict[str, Any]]:
    """Rank inside the trained window and beyond it, by every task."""
    for mode, by_factor in ((TRAINING_FREE, outcomes.training_free), (TRAINED, outcomes.trained)):
        for factor, by_scheme in by_factor.items():
            if by_scheme:
                measured = {label: [o.evaluation for o in several] for label, several in by_scheme.items()}
                for row in rankings(measured, boundary=comparison.base.trained_length):
                    yield {"factor": factor, "mode": mode, **row}


def cell_row(outcome: Outcome) -> dict[str, Any]:
    return {
        "cell": outcome.title,
        "fingerprint": outcome.fingerprint,
        "train_seconds": outcome.train_seconds,
        "evaluate_seconds": outcome.evaluation.seconds,
        "selection_loss": outcome.selection_loss,
    }


def notes(comparison: Comparison, outcomes: Outcomes) -> Iterator[str]:
    """Say under which conditions the numbers hold."""
    section, boundary = comparison.section, comparison.base.trained_length
    yield (
        "A star: no other scheme of the column is shown to be better, so that those with a star are not "
        "distinguishable. The intervals of a column hold for all its pairs at once (Bonferroni); documents "
        "are resampled."
    )
    if section.stretch == "equal":
        yield "Equal stretch: the one free knob of each scheme is set so that its stretch is the factor."
    published = [
        one.label for one in comparison.contenders[section.middle] if not one.matched and not one.same_as
    ]
    if published:
        yield f"As published, at the stretch printed: {', '.join(published)}."
    if not outcomes.rates:
        return
    yield (
        "Trained on the same tokens in the same order by every scheme of a factor"
        + (
            "; one seed, a screening: what another order of the data would change is not in the intervals."
            if section.seeds == 1
            else f"; means over {section.seeds} seeds: a difference counts only if every seed has its sign."
        )
    )
    if outcomes.losses:
        rates = ", ".join(f"{rate:g}" for rate in comparison.rates)
        yield (
            f"Learning rate of each scheme: of {rates}, the one with the least loss beyond {boundary} tokens "
            f"at {section.middle:g}x with seed 0, on selection documents (one in {SELECTION} of those held "
            "out) that are in no reported number."
        )


def print_comparison(report: Report, console: Console) -> None:
    """Print how each scheme took part, a table a measurement, and under which conditions they hold."""
    print_table(*settings_table(report), console, title=report["title"])
    for title, head, rows in measurements(report):
        console.print()
        print_table(head, rows, console, title=title)
    console.print()
    for note in report["notes"]:
        console.print(f"- {note}", markup=False, soft_wrap=True)
