"""What happens in a run: measure the base, train, export, measure again, report.

Each part is done once and kept in the run directory, so the same command goes on where it stopped.
"""

from __future__ import annotations

import json
import os
import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import torch
from omegaconf import OmegaConf
from rich.console import Console
from transformers import PreTrainedModel

from ...data import Documents, open_documents, open_plan
from ...eval import Subject, Task
from ...eval.report.record import build_report
from ...eval.report.wording import sentences, summary_rows, unit_of
from ...eval.report.write import write_report
from ...eval.result import Evaluation, pool, split
from ...eval.run import evaluate
from ...eval.task import Progress, silent
from ...rope import Scheme
from ...train.attention.kernels import choose_kernel
from ...train.convert.huggingface import convert
from ...train.loop import Callbacks, train
from ...train.mesh import Mesh, in_world
from ...train.progress import own_scheme
from ...train.storage import write_json, write_text
from ..language.catalogue import shipped
from ..language.check import model_facts
from ..language.schema import Recipe
from ..show.console import TrainingDisplay, phases, print_table
from ..show.plan import near_tasks, serving_lines
from .evaluation import load_subject, tokenizer_of
from .stores import store_folder


class Extension:
    """One run of a recipe on this rank; what is done already is read back from its run directory."""

    def __init__(
        self, name: str, stages: Sequence[Recipe], plans: Sequence[Path], mesh: Mesh, console: Console
    ) -> None:
        self.name, self.stages, self.last = name, list(stages), stages[-1]
        self.mesh, self.console = mesh, console
        self.plans = [open_plan(plan) for plan in plans]
        self.run_dir = Path(self.last.run_dir)
        self.eval_mesh = Mesh.of_world(sequence=self.last.eval.sequence)
        self.trained_length = next(iter(model_facts(self.last).bases.values())).trained_length
        self.began = time.monotonic()

    def run(self) -> None:
        """Do what is left to do; the same command on the same run directory goes on where it stopped."""
        for stage in self.stages:
            choose_kernel(stage.train.kernel, self.mesh.device)  # or refuse it, before anything is measured
        facts = model_facts(self.last)
        for line in (*serving_lines(self.last, facts), *near_tasks(self.last, facts)):
            self.console.print(f"warning: {line}", markup=False, soft_wrap=True)
        self.write_recipe()
        measured = self.measure_base()
        with TrainingDisplay(self.console) as display:
            callbacks = Callbacks(on_step=display.on_step, on_evaluate=self.measure_on_the_way)
            checkpoint = train(
                [stage.stage for stage in self.stages], self.plans, self.mesh, self.run_dir, callbacks
            )
        exported = self.export(checkpoint)
        if self.last.eval.tasks:
            measured["extended"] = self.measured("extended", exported, None)
            self.report(measured, exported)
        self.console.print(f"\nmodel: {exported}", markup=False, soft_wrap=True)
        if self.name in {file.stem for file in shipped()} and not self.last.model.from_scratch:
            lines = commands_for_others(self.last.target_length, self.mesh.layout.world)
            self.console.print(lines, markup=False, soft_wrap=True)

    def write_recipe(self) -> None:
        """Keep the resolved recipe beside its results."""
        if self.mesh.is_main:
            self.run_dir.mkdir(parents=True, exist_ok=True)
            plain = [stage.model_dump(mode="json", exclude={"stages"}) for stage in self.stages]
            write_text(self.run_dir / "recipe.yaml", OmegaConf.to_yaml({"format": 1, "stages": plain}))
        self.mesh.barrier()

    def measure_base(self) -> dict[str, Evaluation]:
        """Measure the model as it is and with the untrained scheme; from scratch there is neither."""
        path, scheme = self.last.model.path, self.last.rope.scheme
        if path is None or not self.last.eval.tasks:
            return {}
        with_scheme = f"base+{scheme.name}"
        subjects = {"base": None, with_scheme: scheme}
        return {name: self.measured(name, Path(path), chosen) for name, chosen in subjects.items()}

    def measured(self, name: str, folder: Path, scheme: Scheme | None) -> Evaluation:
        """Evaluate a model, or read back what an earlier call of this run found."""
        kept = self.run_dir / "evaluations" / f"{name}.json"
        if kept.exists():
            evaluation = Evaluation.from_json(json.loads(kept.read_text(encoding="utf-8")))
            if same_tasks(evaluation, self.last.tasks):
                return evaluation
        with phases(self.console) as progress:
            evaluation = self.evaluate(load_subject(name, folder, scheme, self.last, self.mesh), progress)
        if self.mesh.is_main:
            kept.parent.mkdir(exist_ok=True)
            write_json(kept, evaluation.json())
        self.mesh.barrier()
        self.say(f"measured {name} in {evaluation.seconds:.0f} s")
        return evaluation

    def evaluate(self, subject: Subject, progress: Progress) -> Evaluation:
        """Run the tasks one by one, and say what each found as soon as it has."""
        whole: Evaluation | None = None
        for name, task in self.last.tasks.items():
            part = evaluate(
                subject,
                {name: task},
                documents=self.documents(),
                corpus=self.plans[-1].corpus_fingerprint,
                reference="extended" if self.last.model.from_scratch else "base",
                mesh=self.eval_mesh,
                seed=self.last.train.seed,
                progress=progress,
            )[subject.name]
            self.say_ends(part)
            if whole is not None:
                results, seconds = whole.results | part.results, whole.seconds + part.seconds
                part = replace(part, results=results, seconds=seconds)
            whole = part
        assert whole is not None
        return whole

    def documents(self) -> Documents:
        return open_documents(store_folder(self.last), split="heldout")

    def say(self, line: str) -> None:
        self.console.print(f"[{time.monotonic() - self.began:.0f} s] {line}", markup=False, soft_wrap=True)

    def say_ends(self, part: Evaluation) -> None:
        """Say where a model stands at the end of the trained window, and at the end of the longer one."""
        trained = self.trained_length
        for name, result in part.results.items():
            parts = split(result.cells, trained)
            if len(parts) == 2:  # else the task measures on one side only
                stops = [cells[-1].length for cells in parts]
                ends = [
                    [c for c in cells if c.length == stop] for cells, stop in zip(parts, stops, strict=True)
                ]
                near, far = (unit_of(result.words.unit).number(pool(cells).mean) for cells in ends)
                self.say(
                    f"{part.model}, {name}: {result.words.quantity} {near} at {stops[0]} tokens, "
                    f"{far} at {stops[1]}; the base was trained at {trained}"
                )

    def measure_on_the_way(self, step: int, model: PreTrainedModel) -> None:
        """Append the scores of a step to evaluations.jsonl."""
        subject = Subject(
            name="extended", model=model, tokenizer=tokenizer_of(self.last.model.tokenizer_folder)
        )
        evaluation = self.evaluate(subject, silent)
        if self.mesh.is_main:
            scores = [vars(score) for score in evaluation.scores]
            with (self.run_dir / "evaluations.jsonl").open("a", encoding="utf-8") as file:
                file.write(json.dumps({"step": step, "scores": scores}) + "\n")

    def export(self, checkpoint: Path) -> Path:
        """Convert the last checkpoint on the main rank; its folder stands only once it is verified.

        A scheme that no other reader knows has no export: the checkpoint is the model.
        """
        if own_scheme(checkpoint):
            self.console.print(
                f"not exported: no Hugging Face config can say {self.last.rope.scheme.name}; ropewalk reads "
                "the checkpoint itself",
                markup=False,
            )
            return checkpoint
        target = self.run_dir / "model"
        if self.mesh.is_main and not target.exists():
            done = convert(checkpoint, target)
            self.console.print(
                f"exported and verified: logits of plain transformers within {done.max_logit_difference:.1e}",
                markup=False,
            )
        self.mesh.barrier()
        return target

    def report(self, measured: dict[str, Evaluation], exported: Path) -> None:
        if not self.mesh.is_main:
            return
        report = build_report(
            measured,
            title=f"{self.last.model.tokenizer_folder.name}: a window of {self.last.target_length} tokens",
            command=command_line(),
        )
        files = write_report(report, self.run_dir)
        self.console.print()
        head, *rows = summary_rows(report)
        print_table(head, rows, self.console, title=report["title"])
        for line in sentences(report):
            self.console.print(f"- {line}", markup=False, soft_wrap=True)
        self.console.print()
        self.say(f"report: {files[-1]}")


def same_tasks(evaluation: Evaluation, tasks: Mapping[str, Task]) -> bool:
    """Tell whether an evaluation answers these tasks, or others that the recipe had when it was made."""
    asked = {name: asdict(task) for name, task in tasks.items()}
    answered = {name: result.settings for name, result in evaluation.results.items()}
    return json.dumps(asked, sort_keys=True) == json.dumps(answered, sort_keys=True)


def run_extension(name: str, stages: Sequence[Recipe], plans: Sequence[Path], console: Console) -> None:
    """Run the stages of the recipe `name`; every rank of the world calls it."""
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    with in_world():
        mesh = Mesh.of_world(sequence=stages[0].train.sequence)
        Extension(name, stages, plans, mesh, console).run()


def commands_for_others(target_length: int, world: int) -> str:
    """Give the commands that begin with the reader's own model and text."""
    return (
        "\nFor a model and text of your own:\n"
        f"  ropewalk recipes new --model FOLDER --to {target_length} --gpus {world} --text FOLDER "
        "> mine.yaml\n"
        "  ropewalk prepare mine.yaml\n"
        f"  torchrun --nproc-per-node {world} -m ropewalk.recipes.extend mine.yaml"
    )


def command_line() -> str:
    """Give the command of this run as a person would type it again."""
    words = [Path(sys.argv[0]).name, *sys.argv[1:]]
    world = os.environ.get("WORLD_SIZE", "1")
    launcher = ["torchrun", "--nproc-per-node", world] if world != "1" else ["python"]
    return shlex.join([*launcher, f"recipes/{words[0]}", *words[1:]] if words[0].endswith(".py") else words)
