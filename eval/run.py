"""How are models measured: every task on every subject, the same items for all, one `Evaluation` each."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import torch

from ..data import Document
from ..rope import installed
from ..train.mesh import Mesh
from .errors import EvalError
from .forwards import Forwards
from .result import Evaluation
from .task import Context, Progress, Subject, Task, check_tasks, silent


def evaluate(
    subjects: Subject | Iterable[Subject],
    tasks: Mapping[str, Task],
    *,
    documents: Sequence[Document],
    corpus: str,
    reference: str | None = None,
    mesh: Mesh | None = None,
    batch_tokens: int = 8192,
    chunk: int | None = None,
    seed: int = 0,
    progress: Progress = silent,
) -> dict[str, Evaluation]:
    """Run every task on every subject and return the evaluations by name, equal on every rank of the mesh.

    Subjects may come from a generator: then only one model need be in memory. `corpus` is the fingerprint
    of what the documents come from; `reference` names the model of reference, by default the first. Of a row
    whose loss is measured, at most `chunk` tokens are in a model at once.
    """
    if not tasks:
        raise EvalError(
            "eval.tasks: at least one task must be there, got none; name one, e.g. kind: position_loss"
        )
    mesh = mesh or Mesh.alone()
    forwards = Forwards(mesh=mesh, batch_tokens=batch_tokens, chunk=chunk, progress=progress)
    done: dict[str, Evaluation] = {}
    for subject in [subjects] if isinstance(subjects, Subject) else subjects:
        if subject.name in done:
            raise EvalError(
                f"evaluate: every model needs a name of its own, got {subject.name!r} twice; rename one"
            )
        reference = reference or subject.name
        context = Context(documents=documents, reference=reference, score_rows=forwards.score_rows, seed=seed)
        done[subject.name] = evaluate_one(subject, tasks, context, corpus=corpus, mesh=mesh)
    return done


def evaluate_one(
    subject: Subject, tasks: Mapping[str, Task], context: Context, *, corpus: str, mesh: Mesh
) -> Evaluation:
    """Run every task on one subject, after all of them have looked at the documents."""
    scheme = installed(subject.model)
    check_tasks(tasks, lambda: subject.tokenizer, context.documents, context.seed)
    started = time.perf_counter()
    results = {name: replace(task.run(subject, context), task=name) for name, task in tasks.items()}
    seconds = mesh.sum([time.perf_counter() - started])[0] / mesh.layout.world
    base = scheme.bases["full_attention"]
    return Evaluation(
        model=subject.name,
        fingerprint=model_fingerprint(subject.model),
        parameters=sum(p.numel() for p in subject.model.parameters()),
        scheme=scheme.scheme.name,
        knobs=scheme.scheme.knobs,
        scheme_fingerprint=scheme.fingerprint,
        original_length=base.stated_length,
        trained_length=base.trained_length,
        target_length=scheme.target_length,
        corpus=corpus,
        reference=context.reference,
        seed=context.seed,
        seconds=seconds,
        results=results,
    )


def model_fingerprint(model: torch.nn.Module) -> str:
    """Hash names, shapes, types and values of all weights (sha256 hex); a tied weight counts once."""
    digest = hashlib.sha256()
    for name, weight in sorted(model.named_parameters()):
        digest.update(f"{name}:{tuple(weight.shape)}:{weight.dtype};".encode())
        digest.update(weight.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
