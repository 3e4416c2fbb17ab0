"""What does a comparison say: its rankings, settings and choices as one plain report.

The report is a dictionary ready for JSON; tables, page and pictures are drawn from it alone. The values of
every document and needle stay in the results of the cells, which it names.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from ....eval.report.ranking import rankings
from .cells import Comparison
from .outcome import SELECTION, Found, Outcome
from .schemes import Contender

TRAINING_FREE, TRAINED = "training-free", "trained"
Report = dict[str, Any]


def build_report(
    comparison: Comparison, found: Found, *, command: str = "", date: str | None = None
) -> Report:
    """Rank the schemes at every factor, training-free and trained apart."""
    section, train = comparison.section, comparison.template.train
    cells = list(outcomes(found))
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
        "plans": plans(found),
        "schemes": [scheme_row(comparison, found, entry.label) for entry in section.schemes],
        "rankings": list(ranking_rows(comparison, found)),
        "protocols": {name: result.protocol for name, result in cells[-1].evaluation.results.items()},
        "notes": list(notes(comparison, found)),
        "cells": [cell_row(outcome) for outcome in cells],
    }


def outcomes(found: Found) -> Iterator[Outcome]:
    for by_factor in (found.training_free, found.trained):
        for own in by_factor.values():
            for several in own.values():
                yield from several


def plans(found: Found) -> dict[str, list[str]]:
    """Give the plan of each factor and seed, and assert that all schemes were trained on it."""
    told = {}
    for factor, own in found.trained.items():
        used = {tuple(outcome.depends_on["plan"] for outcome in several) for several in own.values()}
        assert len(used) <= 1, (factor, used)
        told[f"{factor:g}"] = list(next(iter(used), ()))
    return told


def scheme_row(comparison: Comparison, found: Found, label: str) -> dict[str, Any]:
    """Describe how a scheme took part."""
    mine = {f: next(c for c in own if c.label == label) for f, own in comparison.contenders.items()}
    losses = found.losses.get(label, {})
    return {
        "scheme": label,
        "trained": label in found.rates,
        "learning_rate": found.rates.get(label),
        "selection_losses": {f"{rate:g}": loss for rate, loss in losses.items()},
        "settings": {f"{factor:g}": setting(one) for factor, one in mine.items()},
    }


def setting(one: Contender) -> dict[str, Any]:
    return {
        "text": one.setting,
        "stretch": one.stretch,
        "matched": one.matched,
        "same_as": one.same_as,
        "knobs": one.scheme.knobs,
    }


def ranking_rows(comparison: Comparison, found: Found) -> Iterator[dict[str, Any]]:
    """Rank inside the trained window and beyond it, by every task."""
    for mode, by_factor in ((TRAINING_FREE, found.training_free), (TRAINED, found.trained)):
        for factor, own in by_factor.items():
            if own:
                measured = {label: [o.evaluation for o in several] for label, several in own.items()}
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


def notes(comparison: Comparison, found: Found) -> Iterator[str]:
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
    if not found.rates:
        return
    yield (
        "Trained on the same tokens in the same order by every scheme of a factor"
        + (
            "; one seed, a screening: what another order of the data would change is not in the intervals."
            if section.seeds == 1
            else f"; means over {section.seeds} seeds: a difference counts only if every seed has its sign."
        )
    )
    if found.losses:
        rates = ", ".join(f"{rate:g}" for rate in comparison.rates)
        yield (
            f"Learning rate of each scheme: of {rates}, the one with the least loss beyond {boundary} tokens "
            f"at {section.middle:g}x with seed 0, on selection documents (one in {SELECTION} of those held "
            "out) that are in no reported number."
        )
