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
from .attention.kernels import Groups, choose_kernel
from .attention.ulysses import GroupedAttention
from .batch import Batches
from .checkpoint import (
    Progress,
    check_same_data,
    latest_checkpoint,
    load_states,
    read_progress,
    save_checkpoint,
)
from .engine import make_engine, set_learning_rate, train_step
from .errors import TrainError
from .loss import TokenLoss
from .mesh import Mesh
from .model import build_model, check_same_frequencies, for_training, install_scheme
from .schedule import learning_rate
from .settings import Stage
from .storage import write_text


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


def train(
    stages: Sequence[Stage], plans: Sequence[Plan], mesh: Mesh, run_dir: Path, callbacks: Callbacks
) -> Path:
    """Train all stages from the newest checkpoint of `run_dir`, or the start; return the last checkpoint."""
    while True:
        folder = latest_checkpoint(run_dir)
        if folder is None:
            progress = Progress(step=0, stage=0, stage_step=0, tokens=0)
        else:
            progress = read_progress(folder, stages)
        if folder and progress.stage_step == stages[progress.stage].train.steps:
            if progress.stage + 1 == len(stages):
                return folder
            progress = replace(progress, stage=progress.stage + 1, stage_step=0)
        elif folder:
            check_same_data(folder, plans[progress.stage])
        StageRun(stages, plans[progress.stage], mesh, run_dir, callbacks).run(progress, folder)


class StageRun:
    """One stage of a run: one model, one plan, one engine."""

    def __init__(
        self, stages: Sequence[Stage], plan: Plan, mesh: Mesh, run_dir: Path, callbacks: Callbacks
    ) -> None:
        self.stages, self.plan, self.mesh, self.run_dir, self.callbacks = (
            stages,
            plan,
            mesh,
            run_dir,
            callbacks,
        )

    def run(self, progress: Progress, folder: Path | None) -> None:
        stage = self.stages[progress.stage]
        settings = stage.train
        torch.use_deterministic_algorithms(settings.deterministic)
        batches = make_batches(stage, self.plan, self.mesh)
        engine = self.engine(stage, batches.accumulation, folder, progress.step)
        kernel = choose_kernel(settings.kernel, self.mesh.device)

        def attention(groups: Groups) -> GroupedAttention:
            return GroupedAttention(groups=groups, kernel=kernel, sequence_group=self.mesh.sequence_group)

        while progress.stage_step < settings.steps:
            progress = self.step(engine, stage, batches, attention, progress)
            done = progress.stage_step
            if done % settings.checkpoint_every == 0 or done == settings.steps:
                save_checkpoint(self.run_dir, engine, stage, progress, self.plan, self.mesh)
            if stage.evaluate_every and done % stage.evaluate_every == 0:
                self.callbacks.on_evaluate(progress.step, engine.module.model)
        engine.destroy()

    def engine(self, stage: Stage, accumulation: int, folder: Path | None, step: int) -> Any:
        model = install_scheme(build_model(stage, folder), stage)
        check_same_frequencies(model, self.mesh)
        model = for_training(model, gradient_checkpointing=stage.train.gradient_checkpointing)
        module = TokenLoss(model.to(self.mesh.device), chunk=stage.train.loss_chunk)  # type: ignore[arg-type]
        engine = make_engine(module, stage.train, accumulation=accumulation)
        load_states(engine, folder, step)
        if folder is None and self.mesh.is_main:
            write_text(self.run_dir / "metrics.jsonl", "")
        elif self.mesh.is_main:
            forget_after(self.run_dir / "metrics.jsonl", step)
        return engine

    def step(
        self, engine: Any, stage: Stage, batches: Batches, attention: Any, progress: Progress
    ) -> Progress:
        settings = stage.train
        # Seeded by place and not by history, so that dropout too is the same after a resume.
        torch.manual_seed(hash((settings.seed, progress.step, self.mesh.rank)))
        rate = learning_rate(
            progress.stage_step,
            peak=settings.learning_rate,
            steps=settings.steps,
            **settings.schedule.model_dump(),
        )
        set_learning_rate(engine, rate)
        began = time.perf_counter()
        result = train_step(engine, batches, progress.stage_step, self.mesh, attention)
        seconds = time.perf_counter() - began
        progress = replace(
            progress,
            step=progress.step + 1,
            stage_step=progress.stage_step + 1,
            tokens=progress.tokens + settings.batch_tokens,
        )
        record = StepRecord(
            step=progress.step,
            stage=progress.stage,
            loss=result.loss,
            grad_norm=result.grad_norm,
            learning_rate=rate,
            tokens=progress.tokens,
            tokens_per_second=settings.batch_tokens / seconds,
            seconds=seconds,
        )
        if self.mesh.is_main:
            with (self.run_dir / "metrics.jsonl").open("a", encoding="utf-8") as file:
                file.write(json.dumps(asdict(record)) + "\n")
            self.callbacks.on_step(record, sum(stage.train.steps for stage in self.stages))
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


def forget_after(metrics: Path, step: int) -> None:
    """Drop the lines of steps that a resumed run will take again."""
    if metrics.exists():
        lines = metrics.read_text(encoding="utf-8").splitlines(keepends=True)
        write_text(metrics, "".join(line for line in lines if json.loads(line)["step"] <= step))
