"""The loop: read a batch, step, log, perhaps checkpoint; and the stages one after the other.

Between stages a run checkpoints and resumes, so handing over and coming back after a kill are one path.
"""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from ..data import Plan
from .attention.kernels import Kernel, choose_kernel
from .batch import Batches
from .checkpoint import save_checkpoint
from .engine import make_engine, set_learning_rate, train_step
from .errors import TrainError
from .loss import TokenLoss
from .mesh import Mesh
from .model import DTYPES, build_model, check_same_frequencies, for_training, install_scheme
from .parity import check_parity
from .progress import Progress, check_same_data, latest_checkpoint, read_progress
from .schedule import learning_rate
from .settings import Stage
from .state import load_states
from .storage import write_text
from .streaming import Streaming


@dataclass(frozen=True, kw_only=True)
class StepRecord:
    """One line of metrics.jsonl: loss in nats a token, gradient norm before clipping, tokens so far."""

    step: int
    stage: int
    loss: float
    grad_norm: float
    learning_rate: float
    tokens: int
    tokens_per_second: float
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Callbacks:
    """What a run calls out to; what is shown and measured lives with the verb that passes it."""

    on_step: Callable[[StepRecord, int], None] = lambda record, total: None
    """After each step, on the main rank, with the steps of all stages."""
    on_evaluate: Callable[[int, PreTrainedModel], None] = lambda step, model: None
    """Every `eval.every` steps, on all ranks."""
    say: Callable[[str], None] = lambda line: None
    """On the main rank, what was done beside the steps."""


def train(
    stages: Sequence[Stage], plans: Sequence[Plan], mesh: Mesh, run_dir: Path, callbacks: Callbacks
) -> Path:
    """Train all stages from the newest checkpoint of `run_dir`, or the start; return the last checkpoint."""
    run = Run(mesh=mesh, run_dir=run_dir, callbacks=callbacks, steps=sum(s.train.steps for s in stages))
    while True:
        folder = latest_checkpoint(run_dir)
        progress = Progress() if folder is None else read_progress(folder, stages)
        if folder and progress.stage_step == stages[progress.stage].train.steps:
            if progress.stage + 1 == len(stages):
                return folder
            progress = replace(progress, stage=progress.stage + 1, stage_step=0)
        elif folder:
            check_same_data(folder, plans[progress.stage])
        run.train(stages[progress.stage], plans[progress.stage], progress, folder)


@dataclass(frozen=True, kw_only=True)
class Run:
    """What all stages share: the ranks, where results lie, what is called out to, the steps in all."""

    mesh: Mesh
    run_dir: Path
    callbacks: Callbacks
    steps: int

    def train(self, stage: Stage, plan: Plan, progress: Progress, folder: Path | None) -> None:
        """Train one stage to its end, from `progress` and the weights of the checkpoint `folder`."""
        torch.use_deterministic_algorithms(stage.train.deterministic)
        batches = make_batches(stage, plan, self.mesh)
        kernel = choose_kernel(stage.train.kernel, self.mesh.device, DTYPES[stage.train.dtype])
        self.check_parity(stage, kernel)
        engine = self.engine(stage, batches.accumulation, folder, progress.step)
        streaming = Streaming.of(stage.train, self.mesh, kernel)
        while progress.stage_step < stage.train.steps:
            progress = self.step(engine, stage, batches, streaming, progress)
            done = progress.stage_step
            if done % stage.train.checkpoint_every == 0 or done == stage.train.steps:
                save_checkpoint(self.run_dir, engine, stage, progress, plan, self.mesh)
            if stage.evaluate_every and done % stage.evaluate_every == 0:
                self.callbacks.on_evaluate(progress.step, engine.module.model)
        engine.destroy()

    def check_parity(self, stage: Stage, kernel: Kernel) -> None:
        """Refuse a layout that gives other gradients than one rank, and say what asking cost."""
        found = check_parity(stage, self.mesh, kernel, self.run_dir)
        if found and self.mesh.is_main:
            self.callbacks.say(
                f"parity: gradients of this layout are those of one rank to {found.difference:.1g} "
                f"({found.seconds:.1f} s)"
            )

    def engine(self, stage: Stage, accumulation: int, folder: Path | None, step: int) -> Any:
        """Build the stage's model and engine, with the states of a checkpoint; cut the metrics to there."""
        model = install_scheme(build_model(stage, folder), stage)
        check_same_frequencies(model, self.mesh)
        model = for_training(model, gradient_checkpointing=stage.train.gradient_checkpointing)
        module = TokenLoss(model.to(self.mesh.device), chunk=stage.train.loss_chunk)  # type: ignore[arg-type]
        engine = make_engine(module, stage.train, accumulation=accumulation)
        load_states(engine, folder, step)
        if self.mesh.is_main:
            keep_until(self.run_dir / "metrics.jsonl", step)
        return engine

    def step(
        self, engine: Any, stage: Stage, batches: Batches, streaming: Streaming, progress: Progress
    ) -> Progress:
        """Take one optimizer step and write its line of metrics.jsonl."""
        settings = stage.train
        # Seeded by place and not by history, so that dropout too is the same after a resume.
        torch.manual_seed(hash((settings.seed, progress.step, self.mesh.rank)))
        schedule, done = settings.schedule.model_dump(), progress.stage_step
        rate = learning_rate(done, peak=settings.learning_rate, steps=settings.steps, **schedule)
        set_learning_rate(engine, rate)
        began = time.perf_counter()
        loss, grad_norm = train_step(engine, batches, done, streaming)
        seconds = time.perf_counter() - began
        tokens = progress.tokens + settings.batch_tokens
        progress = replace(progress, step=progress.step + 1, stage_step=done + 1, tokens=tokens)
        record = StepRecord(
            step=progress.step,
            stage=progress.stage,
            loss=loss,
            grad_norm=grad_norm,
            learning_rate=rate,
            tokens=tokens,
            tokens_per_second=settings.batch_tokens / seconds,
            seconds=seconds,
        )
        if self.mesh.is_main:
            with (self.run_dir / "metrics.jsonl").open("a", encoding="utf-8") as file:
                file.write(json.dumps(asdict(record)) + "\n")
            self.callbacks.on_step(record, self.steps)
        return progress


def make_batches(stage: Stage, plan: Plan, mesh: Mesh) -> Batches:
    """Cut the plan into optimizer steps; a plan with too few packs is refused before the first."""
    settings = stage.train
    if plan.length != stage.pack_length:
        raise TrainError(
            f"data: packs must have {stage.pack_length} tokens, got {plan.length}; prepare this recipe"
        )
    packs = settings.batch_tokens // stage.pack_length
    if settings.steps * packs > len(plan):
        raise TrainError(
            f"train.steps: {settings.steps} steps of {packs} packs need {settings.steps * packs} packs, "
            f"got {len(plan)}; raise data.tokens or lower train.steps"
        )
    return Batches(plan=plan, layout=mesh.layout, packs_per_step=packs, micro_batch=settings.micro_batch)


def keep_until(metrics: Path, step: int) -> None:
    """Drop the lines of steps after `step`, which will be taken again, and one that a kill cut short."""
    lines = metrics.read_text(encoding="utf-8").splitlines(keepends=True) if metrics.exists() else []
    whole = (line for line in lines if line.endswith("\n"))
    write_text(metrics, "".join(line for line in whole if json.loads(line)["step"] <= step))
