"""What does `evaluate` check, plan and do on a model folder that a recipe did not make?"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import torch
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from ...data import open_documents, read_manifest
from ...eval import Subject
from ...eval.result import Evaluation
from ...eval.run import evaluate as run_tasks
from ...rope import RopeError, Scheme, install
from ...train.checkpoint import own_scheme
from ...train.mesh import Mesh, in_world
from ...train.model import DTYPES, check_same_frequencies, load_model
from ...train.settings import ModelSection
from ..language.check import ModelFacts, model_facts, sequence_problems
from ..language.errors import RecipeError, raise_all
from ..language.schema import Recipe
from ..options import screen, world_size
from ..show.plan import frequency_rows
from ..show.progress import phases


def check_evaluation(stage: Recipe, folder: Path, world: int, *, where: str) -> None:
    """Raise all problems of measuring this model on `world` ranks: tasks, model, tokenizer, degree."""
    found: list[str] = []
    if not stage.eval.tasks:
        found.append("eval.tasks: must name at least one task, got none; add one, e.g. kind: position_loss")
    try:
        facts = facts_of(stage, folder)
    except (RopeError, RecipeError) as error:
        found.append(f"MODEL {folder}: {error}")
    else:
        found += sequence_problems("eval.sequence", stage.eval.sequence, stage.target_length, facts, world)
        found += _tokenizer_problems(stage, folder)
    raise_all(where, found)


def evaluation_rows(
    stage: Recipe, folder: Path, scheme: Scheme | None, world: int
) -> Iterator[tuple[str, str]]:
    """Describe what would be measured, on what."""
    facts = facts_of(stage, folder)
    base = next(iter(facts.bases.values()))
    yield "model", f"{folder}: {facts.config.get('model_type')}, trained length {base.trained_length:,}"
    if scheme is None:
        chosen, length = own_scheme(folder) or (base.current, base.trained_length)
        yield from frequency_rows(chosen, facts.bases, length)
    else:
        yield from frequency_rows(scheme, facts.bases, stage.target_length)
    yield "layout", f"world {world} = data {world // stage.eval.sequence} x sequence {stage.eval.sequence}"
    for name, task in stage.tasks.items():
        yield name, task.protocol()


def measure(stage: Recipe, folder: Path, scheme: Scheme | None, *, store: Path) -> Evaluation:
    """Run the tasks on the held-out documents of a store, over all ranks."""
    with in_world() if world_size() > 1 else nullcontext():
        mesh = Mesh.of_world(sequence=stage.eval.sequence)
        with phases(screen(stderr=True)) as progress:
            subject = load_subject(folder.name, folder, scheme, stage, mesh)
            return run_tasks(
                subject,
                stage.tasks,
                documents=open_documents(store, split="heldout"),
                corpus=read_manifest(store / "corpus", "corpus")["fingerprint"],
                mesh=mesh,
                seed=stage.train.seed,
                progress=progress,
            )[subject.name]


def facts_of(stage: Recipe, folder: Path) -> ModelFacts:
    """Read the rotary facts of a model folder, with the lengths the recipe states."""
    return model_facts(stage.model_copy(update={"model": ModelSection(path=str(folder))}))


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


def _tokenizer_problems(stage: Recipe, folder: Path) -> Iterator[str]:
    """The held-out documents are tokens already: another vocabulary would read them as noise."""
    corpus = stage.model.tokenizer_folder
    try:
        same = not corpus.is_dir() or tokenizer_of(folder).get_vocab() == tokenizer_of(corpus).get_vocab()
    except (OSError, ValueError) as error:
        yield f"MODEL {folder}: must hold a tokenizer, got none that loads ({error}); copy one there"
        return
    if not same:
        yield (
            f"MODEL {folder}: must have the vocabulary of the recipe's tokenizer {corpus}, got another; "
            "use a recipe prepared with this model's tokenizer (model.tokenizer=... data.store=...)"
        )


def tokenizer_of(folder: Path) -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(folder, local_files_only=True)
