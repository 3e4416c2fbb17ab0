"""What happens in a comparison: every cell once, and a learning rate chosen for each scheme.

A cell's result is kept under the fingerprint of all that its numbers depend on. So the same command goes on
where it stopped, and a changed recipe runs only the cells that it changes.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf
from rich.console import Console

from ....data import open_documents, open_plan
from ....data.corpus.manifest import fingerprint
from ....eval import Subject, make_task
from ....eval.report.write import write_comparison
from ....eval.result import Cell as Values
from ....eval.result import Evaluation
from ....eval.run import evaluate
from ....eval.task import Progress, silent
from ....train.attention.kernels import choose_kernel
from ....train.loop import Callbacks, train
from ....train.mesh import Mesh, in_world
from ....train.model import DTYPES, build_model, install_scheme
from ....train.storage import write_text
from ...language.errors import RecipeError
from ...language.facts import model_facts
from ...show.console import TrainingDisplay, phases
from ..evaluation import arranged_to_measure, load_subject, tokenizer_of
from ..extension import command_line
from ..stores import store_folder
from .cells import Cell, Comparison
from .outcome import (
    Outcome,
    Outcomes,
    beyond,
    cell_folder,
    dependencies,
    headline,
    split_documents,
    train_seconds,
    weights_fingerprint,
)
from .report import build_report, print_comparison
from .schemes import Contender


class ComparisonRun:
    """One comparison on this rank; every rank of the world makes it and calls `run`."""

    def __init__(
        self, comparison: Comparison, plans: Mapping[tuple[float, int], Path], mesh: Mesh, console: Console
    ) -> None:
        self.comparison, self.mesh, self.console = comparison, mesh, console
        self.template, self.boundary = comparison.template, comparison.base.trained_length
        self.plans = {key: open_plan(folder) for key, folder in plans.items()}
        self.eval_mesh = arranged_to_measure(mesh, model_facts(self.template), self.template.eval.sequence)
        documents = open_documents(store_folder(self.template), split="heldout")
        self.selection, self.reported = split_documents(documents)
        self.weights = weights_fingerprint(comparison.model)
        self.began = time.monotonic()

    def run(self) -> Outcomes:
        """Do what is left to do; the training-free cells come first, since they are quick and say much."""
        comparison, factors = self.comparison, self.comparison.section.factors
        self.check()
        self.write_recipe()
        free = {
            factor: {one.label: [self.outcome(comparison.cell(one))] for one in comparison.distinct(factor)}
            for factor in factors
        }
        losses, rates = self.choose_rates()
        cells = {
            factor: {
                one.label: comparison.trained(one, rates[one.label]) for one in comparison.trainees(factor)
            }
            for factor in factors
        }
        trained = {
            factor: {label: [self.outcome(cell) for cell in seeds] for label, seeds in by_scheme.items()}
            for factor, by_scheme in cells.items()
        }
        return Outcomes(training_free=free, trained=trained, losses=losses, rates=rates)

    def check(self) -> None:
        """Stop before the first cell what would fail at a later one."""
        choose_kernel(self.template.train.kernel, self.mesh.device, DTYPES[self.template.train.dtype])
        length = self.comparison.recipes[self.comparison.section.middle].target_length
        count = len([d for d in self.selection if len(d.tokens) >= length])
        if len(self.comparison.rates) > 1 and count < 2:
            raise RecipeError(
                f"{self.comparison.name}: data.holdout: must leave 2 selection documents of {length} tokens, "
                f"got {count}; hold out more, or name one learning rate"
            )

    def choose_rates(self) -> tuple[dict[str, dict[float, float]], dict[str, float]]:
        """Choose each scheme's learning rate by its loss at the middle factor on the selection documents."""
        losses: dict[str, dict[float, float]] = {}
        rates: dict[str, float] = {}
        for one in self.comparison.contenders[self.comparison.section.middle]:
            if not self.comparison.trains(one):
                continue
            if len(self.comparison.rates) == 1:
                rates[one.label] = self.comparison.rates[0]
                continue
            losses[one.label] = losses[one.same_as] if one.same_as else self.losses(one)
            rates[one.label] = min(losses[one.label], key=losses[one.label].__getitem__)
            tried = ", ".join(f"{loss:.4f} at {rate:g}" for rate, loss in losses[one.label].items())
            self.say(f"{one.label}: learning rate {rates[one.label]:g} (selection loss {tried})")
        return losses, rates

    def losses(self, one: Contender) -> dict[float, float]:
        """Train a scheme with every learning rate."""
        losses = {}
        for rate in self.comparison.rates:
            loss = self.outcome(self.comparison.cell(one, seed=0, rate=rate)).selection_loss
            assert loss is not None
            losses[rate] = loss
        return losses

    def outcome(self, cell: Cell) -> Outcome:
        """Run a cell, or read back what an earlier call found."""
        plan = self.plans[cell.contender.factor, cell.seed or 0]
        depends_on = dependencies(
            cell, self.comparison.base, plan, weights=self.weights, seed=self.template.train.seed
        )
        folder = cell_folder(self.comparison.run_dir, cell, depends_on)
        kept = folder / "result.json"
        if kept.exists():
            return Outcome.read(kept)
        folder.mkdir(parents=True, exist_ok=True)
        subject = self.untrained(cell) if cell.seed is None else self.trained(cell, folder)
        # In a log the lines of forwards would bury those of the cells.
        with phases(self.console) if self.console.is_terminal else nullcontext(silent) as progress:
            selected = self.selected(cell, subject, progress) if cell.chooses else None
            outcome = Outcome(
                title=cell.title,
                fingerprint=fingerprint(depends_on),
                depends_on=depends_on,
                selection_loss=None if selected is None else selected.mean,
                selection_documents=[] if selected is None else list(selected.items),
                train_seconds=train_seconds(folder / "metrics.jsonl"),
                evaluation=self.evaluate(cell, subject, progress),
            )
        if self.mesh.is_main:
            outcome.write(kept)
            drop_checkpoints(folder)
        self.mesh.barrier()
        self.say(f"{cell.title}: {headline(outcome.evaluation, self.boundary)}")
        return outcome

    def untrained(self, cell: Cell) -> Subject:
        model, scheme = self.comparison.model, cell.contender.scheme
        return load_subject(cell.title, model, scheme, cell.recipe, self.mesh)

    def trained(self, cell: Cell, folder: Path) -> Subject:
        """Train a cell and take its weights from the last checkpoint."""
        self.say(f"{cell.title}: training")
        plan = self.plans[cell.contender.factor, cell.seed or 0]
        with TrainingDisplay(self.console) as display:
            callbacks = Callbacks(on_step=display.on_step, say=self.say)
            checkpoint = train([cell.recipe.stage], [plan], self.mesh, folder, callbacks)
        recipe = cell.recipe
        model = install_scheme(build_model(recipe.stage, checkpoint), recipe.stage)
        torch.nn.Module.to(model, self.mesh.device, DTYPES[recipe.train.dtype]).eval()
        return Subject(name=cell.title, model=model, tokenizer=tokenizer_of(recipe.model.tokenizer_folder))

    def evaluate(self, cell: Cell, subject: Subject, progress: Progress) -> Evaluation:
        """Run the recipe's tasks on the reported documents, the same for every cell of a factor."""
        return evaluate(
            subject,
            cell.recipe.tasks,
            documents=self.reported,
            corpus=self.plans[cell.contender.factor, 0].corpus_fingerprint,
            reference="base",
            mesh=self.eval_mesh,
            chunk=self.template.eval.chunk,
            seed=self.template.train.seed,
            progress=progress,
        )[subject.name]

    def selected(self, cell: Cell, subject: Subject, progress: Progress) -> Values:
        """Measure the loss beyond the trained window on the documents that no reported number contains."""
        length = cell.recipe.target_length
        count = len([d for d in self.selection if len(d.tokens) >= length])
        result = evaluate(
            subject,
            {"selection": make_task("position_loss", length=length, documents=count)},
            documents=self.selection,
            corpus=self.plans[cell.contender.factor, 0].corpus_fingerprint,
            mesh=self.eval_mesh,
            chunk=self.template.eval.chunk,
            progress=progress,
        )[subject.name].results["selection"]
        return beyond(result, self.boundary)

    def write_recipe(self) -> None:
        """Keep the resolved recipe beside its results."""
        if self.mesh.is_main:
            self.comparison.run_dir.mkdir(parents=True, exist_ok=True)
            section = self.comparison.section.model_dump(mode="json")
            plain = {"format": 1, "compare": section, **self.template.model_dump(mode="json")}
            write_text(self.comparison.run_dir / "recipe.yaml", OmegaConf.to_yaml(plain))
        self.mesh.barrier()

    def say(self, line: str) -> None:
        self.console.print(f"[{time.monotonic() - self.began:.0f} s] {line}", markup=False, soft_wrap=True)


def run_comparison(
    comparison: Comparison, plans: Mapping[tuple[float, int], Path], console: Console
) -> dict[str, Any] | None:
    """Run a comparison; every rank of the world calls it, rank 0 writes, prints and returns its report."""
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    with in_world():
        mesh = Mesh.of_world()
        outcomes = ComparisonRun(comparison, plans, mesh, console).run()
        if not mesh.is_main:
            return None
        report = build_report(comparison, outcomes, command=command_line())
        files = write_comparison(report, comparison.run_dir)
        print_comparison(report, console)
        console.print(f"\nreport: {files[-1]}", markup=False, soft_wrap=True)
        return report


def drop_checkpoints(folder: Path) -> None:
    """Free the disk: a cell that has its result needs no weights."""
    (folder / "latest").unlink(missing_ok=True)
    shutil.rmtree(folder / "checkpoints", ignore_errors=True)
