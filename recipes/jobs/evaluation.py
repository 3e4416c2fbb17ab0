"""What does `evaluate` do on a model folder that a recipe did not make? Load, install, run the tasks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from ...data import open_documents, read_manifest
from ...eval import Subject
from ...eval.run import evaluate as run_tasks
from ...rope import Scheme, install
from ...train.layout import Layout
from ...train.mesh import Mesh, in_world
from ...train.model import DTYPES, check_same_frequencies, load_model
from ...train.progress import own_scheme
from ..language.facts import ModelFacts, facts_of
from ..language.schema import Recipe
from ..options import world_size
from ..show.console import phases, screen


def measure(stage: Recipe, folder: Path, scheme: Scheme | None, *, store: Path) -> dict[str, Any]:
    """Run the tasks on the held-out documents of a store, over all ranks.

    The result is the evaluation as JSON values, its `scores` among them.
    """
    with measuring_mesh(stage, folder) as mesh, phases(screen(stderr=True)) as progress:
        subject = load_subject(folder.name, folder, scheme, stage, mesh)
        evaluation = run_tasks(
            subject,
            stage.tasks,
            documents=open_documents(store, split="heldout"),
            corpus=read_manifest(store / "corpus", "corpus")["fingerprint"],
            mesh=mesh,
            chunk=stage.eval.chunk,
            seed=stage.train.seed,
            progress=progress,
        )[subject.name]
    return {**evaluation.json(), "scores": [asdict(score) for score in evaluation.scores]}


@contextmanager
def measuring_mesh(stage: Recipe, folder: Path) -> Iterator[Mesh]:
    """Join the ranks that measure the model of a folder; a process alone needs no process group."""
    with in_world() if world_size() > 1 else nullcontext():
        yield arranged_to_measure(Mesh.of_world(), facts_of(stage, folder), stage.eval.sequence)


def arranged_to_measure(mesh: Mesh, facts: ModelFacts, sequence: int) -> Mesh:
    """Arrange the ranks of a mesh so that `sequence` of them share a row."""
    return mesh.arranged(Layout.of(mesh.layout.world, sequence, facts.heads))


def load_subject(name: str, folder: Path, scheme: Scheme | None, stage: Recipe, mesh: Mesh) -> Subject:
    """Load a model and its tokenizer, and install the scheme for the recipe's target; None: as it is."""
    model = load_model(folder, DTYPES[stage.train.dtype])
    torch.nn.Module.to(model, mesh.device).eval()
    chosen, target = (scheme, stage.target_length) if scheme else own_scheme(folder) or (None, None)
    install(
        model,
        chosen,
        target_length=target,
        replace=chosen is not None,
        original_length=stage.original_length,
        trained_length=stage.trained_length,
    )
    check_same_frequencies(model, mesh)
    return Subject(name=name, model=model, tokenizer=tokenizer_of(folder))


def tokenizer_of(folder: Path) -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(folder, local_files_only=True)
