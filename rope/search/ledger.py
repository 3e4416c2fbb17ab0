"""What has a search paid for? Every trial in a journal: read back on resuming, never paid twice.

A search is a function of its seed and of the losses it was told, so a stopped one is replayed: the same
trials are asked for again, the journal answers until it ends, and the fitness from there on.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..scheme import RopeError
from .space import Candidate

FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One candidate on some of the documents."""

    candidate: Candidate
    documents: tuple[int, ...]


Fitness = Callable[[Sequence[Trial]], list[list[float]]]
"""Gives the losses (nats) of each trial, one a document; what the verb wires."""


class Ledger:
    """Pay for trials through a fitness and a journal; know every loss so far."""

    def __init__(
        self,
        fitness: Fitness,
        *,
        documents: int,
        limit: int | None = None,
        path: Path | None = None,
        about: Mapping[str, Any] | None = None,
        at_once: int = 1,
    ) -> None:
        """`limit` bounds the forwards (a candidate on a document), `at_once` the trials `fitness` is given.

        `about` says which search this is; the journal of another one is refused.
        """
        self.fitness, self.documents, self.limit = fitness, documents, limit
        self.at_once = at_once
        self.losses: dict[Candidate, dict[int, float]] = {}
        self.forwards = 0
        self.path = path
        self._answers = [] if path is None else _open_journal(path, dict(about or {}))

    def pay(self, trials: Sequence[Trial]) -> None:
        """Score trials, from the journal while it lasts."""
        known = min(len(self._answers), len(trials))
        for trial in trials[:known]:
            self._book(trial, self._recall(trial))
        for start in range(known, len(trials), self.at_once):
            part = trials[start : start + self.at_once]
            results = self.fitness(part)
            for trial, losses in zip(part, results, strict=True):
                _check_finite(trial, losses)
                self._book(trial, losses)
                self._write(trial, losses)

    def meet(self, candidates: Sequence[Candidate], documents: Sequence[int]) -> None:
        """Score candidates on those of some documents that they have not met."""
        trials = []
        for candidate in dict.fromkeys(candidates):
            met = self.losses.get(candidate, {})
            if new := tuple(document for document in documents if document not in met):
                trials.append(Trial(candidate=candidate, documents=new))
        self.pay(trials)

    def complete(self, candidates: Sequence[Candidate]) -> None:
        """Score candidates on every document they have not met."""
        self.meet(candidates, range(self.documents))

    def left(self, forwards: int) -> bool:
        """Say whether so many forwards may still be paid."""
        return self.limit is None or self.forwards + forwards <= self.limit

    def mean(self, candidate: Candidate, documents: Sequence[int] | None = None) -> float:
        """Return the mean loss of a candidate over documents it has met, all of them by default."""
        met = self.losses[candidate]
        chosen = range(self.documents) if documents is None else documents
        return float(np.mean([met[document] for document in chosen]))

    def _book(self, trial: Trial, losses: Sequence[float]) -> None:
        met = self.losses.setdefault(trial.candidate, {})
        assert not met.keys() & set(trial.documents), "a vector was scored on a document twice"
        met.update(zip(trial.documents, losses, strict=True))
        self.forwards += len(losses)

    def _recall(self, trial: Trial) -> list[float]:
        """Take the journal's next answer, which must be for this trial."""
        line = self._answers.pop(0)
        if not _line(trial).items() <= line.items():
            raise RopeError(
                f"{self.path}: must hold the trials of this search in their order, got another where "
                f"{self.forwards} forwards were read; delete it, or name another folder"
            )
        return line["losses"]

    def _write(self, trial: Trial, losses: Sequence[float]) -> None:
        if self.path is not None:
            with self.path.open("a", encoding="utf-8") as journal:
                line = _line(trial) | {"losses": list(losses)}
                journal.write(json.dumps(line, allow_nan=False) + "\n")


def _check_finite(trial: Trial, losses: Sequence[float]) -> None:
    """Refuse losses that are no numbers: none is better or worse than any other."""
    if not np.isfinite(losses).all():
        raise RopeError(
            f"search.fitness: every loss must be finite, got {list(losses)} of {trial.candidate.json()}; "
            "look at the weights, or at what the fitness does with this candidate"
        )


def _line(trial: Trial) -> dict[str, Any]:
    """Return the journal's form of a trial, in JSON values."""
    return trial.candidate.json() | {"documents": list(trial.documents)}


def _open_journal(path: Path, about: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the trials of a journal, begun if it is not there; a line cut by a kill is taken off."""
    head = json.dumps({"format": FORMAT, "about": about})
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    whole = text[: text.rfind("\n") + 1]
    first, *lines = whole.splitlines() or [head]
    _check_head(path, json.loads(first), json.loads(head))
    if text != whole or not whole:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(whole or head + "\n", encoding="utf-8")
    return [json.loads(line) for line in lines]


def _check_head(path: Path, head: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Refuse the journal of another search, with every field that differs."""
    if head.get("format") != wanted["format"]:
        raise RopeError(
            f"{path}: format must be {FORMAT}, got {head.get('format')!r}; delete it, or update ropewalk"
        )
    ours, theirs = wanted["about"], head["about"]
    different = [
        f"{key} {theirs.get(key)!r}, not {ours.get(key)!r}"
        for key in sorted(ours.keys() | theirs.keys())
        if ours.get(key) != theirs.get(key)
    ]
    if different:
        raise RopeError(
            f"{path}: must be the journal of this search, got one with {'; '.join(different)}; "
            "delete it, or name another folder"
        )
