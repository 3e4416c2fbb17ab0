"""How are models measured: every task on every subject, the same items for all, one `Evaluation` each."""

import hashlib
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

import torch

from ..rope import installed
from ..train.mesh import Mesh
from .errors import EvalError
from .result import Result, Score
from .task import Context, Progress, Subject, Task, silent

if TYPE_CHECKING:
    from ..data import Document

FORMAT = 1


@dataclass(frozen=True, kw_only=True, eq=False)
class Evaluation:
    """What was measured on one model, and which model, scheme and corpus that was.

    `fingerprint` hashes the weights, `scheme_fingerprint` the frequencies, `corpus` the token store;
    `reference` is the model that gains are formed against. Lengths are in tokens, `seconds` of wall time
    are the mean over ranks.
    """

    model: str
    fingerprint: str
    parameters: int
    scheme: str
    knobs: dict[str, Any]
    scheme_fingerprint: str
    original_length: int
    trained_length: int
    target_length: int
    corpus: str
    reference: str
    seed: int
    seconds: float
    results: dict[str, Result]

    @property
    def scores(self) -> list[Score]:
        return [score for result in self.results.values() for score in result.scores()]

    def json(self) -> dict[str, Any]:
        plain = {f.name: getattr(self, f.name) for f in fields(self)}
        return {"format": FORMAT, **plain, "results": {name: r.json() for name, r in self.results.items()}}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Evaluation":
        if data.get("format") != FORMAT:
            raise EvalError(
                f"evaluation.format: must be {FORMAT}, got {data.get('format')!r}; read it with the "
                "version that wrote it"
            )
        results = {name: Result.from_json(result) for name, result in data["results"].items()}
        return cls(**{**{f.name: data[f.name] for f in fields(cls)}, "results": results})


def evaluate(
    subjects: Subject | Iterable[Subject],
    tasks: Mapping[str, Task],
    *,
    documents: Sequence["Document"],
    corpus: str,
    reference: str | None = None,
    mesh: Mesh | None = None,
    batch_tokens: int = 8192,
    seed: int = 0,
    progress: Progress = silent,
) -> dict[str, Evaluation]:
    """Run every task on every subject and return the evaluations by name, equal on every rank of the mesh.

    Subjects may come from a generator: then only one model need be in memory. `corpus` is the fingerprint
    of what the documents come from; `reference` names the model of reference, by default the first.
    """
    if not tasks:
        raise EvalError(
            "eval.tasks: at least one task must be there, got none; name one, e.g. kind: position_loss"
        )
    done: dict[str, Evaluation] = {}
    for subject in [subjects] if isinstance(subjects, Subject) else subjects:
        if subject.name in done:
            raise EvalError(
                f"evaluate: every model needs a name of its own, got {subject.name!r} twice; rename one"
            )
        reference = reference or subject.name
        context = Context(
            documents=documents,
            reference=reference,
            mesh=mesh or Mesh.alone(),
            batch_tokens=batch_tokens,
            seed=seed,
            progress=progress,
        )
        done[subject.name] = evaluate_one(subject, tasks, context, corpus=corpus)
    return done


def evaluate_one(subject: Subject, tasks: Mapping[str, Task], context: Context, *, corpus: str) -> Evaluation:
    """Run every task on one subject, after all of them have looked at the documents."""
    scheme = installed(subject.model)
    check(subject, tasks, context)
    started = time.perf_counter()
    results = {name: replace(task.run(subject, context), task=name) for name, task in tasks.items()}
    seconds = context.mesh.sum([time.perf_counter() - started])[0] / context.mesh.layout.world
    base = scheme.bases["full_attention"]
    return Evaluation(
        model=subject.name,
        fingerprint=model_fingerprint(subject.model),
        parameters=sum(p.numel() for p in subject.model.parameters()),
        scheme=scheme.scheme.name,
        knobs=scheme.scheme.knobs,
        scheme_fingerprint=scheme.fingerprint,
        original_length=base.original_length,
        trained_length=base.trained_length,
        target_length=scheme.target_length,
        corpus=corpus,
        reference=context.reference,
        seed=context.seed,
        seconds=seconds,
        results=results,
    )


def check(subject: Subject, tasks: Mapping[str, Task], context: Context) -> None:
    """Refuse before any forward what the documents cannot give, all tasks at once."""
    problems = []
    for name, task in tasks.items():
        if not re.fullmatch(r"[\w-]+", name):
            problems.append(
                f"eval.tasks: a name must be letters, digits, -, _ (it names a file), got {name!r}; rename it"
            )
        try:
            task.check(subject, context)
        except EvalError as problem:
            problems.append(f"eval.tasks.{name}: {problem}")
    if problems:
        raise EvalError("\n".join(problems))


def model_fingerprint(model: torch.nn.Module) -> str:
    """Hash names, shapes, types and values of all weights (sha256 hex); a tied weight counts once."""
    digest = hashlib.sha256()
    for name, weight in sorted(model.named_parameters()):
        digest.update(f"{name}:{tuple(weight.shape)}:{weight.dtype};".encode())
        digest.update(weight.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
