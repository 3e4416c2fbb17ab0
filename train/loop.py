"""The loop: read a batch, step, log, perhaps checkpoint; and the stages one after the other.

Between stages a run checkpoints and resumes, so handing over and coming back after a kill are one path.
"""

import gc
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from ..data import Plan
from .attention.kernels import Kernel, choose_kernel
from .batch import Batches
from .checkpoint import save_checkpoint
from .engine import (
    accumulate,
    drop_step,
    gradient_norm,
    make_engine,
    set_learning_rate,
    take_step,
)
from .errors import TrainError
from .guard import Guard
from .loss import TokenLoss
from .mesh import Mesh, use_deterministic_kernels
from .metrics import StepRecord, keep_until, number, taken
from .model import (
    DTYPES,
    build_model,
    check_same_frequencies,
    for_training,
    install_scheme,
    layout_of,
)
from .parity import check_parity
from .progress import Progress, check_same_data, latest_checkpoint, read_progress
from .release import release
from .schedule import learning_rate, unlabelled_problem, unlabelled_steps
from .settings import Stage
from .state import float32_weights, load_states
from .streaming import Streaming


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
        stage, plan = stages[progress.stage], plans[progress.stage]
        arranged = mesh.arranged(layout_of(stage, mesh.layout.world))
        replace(run, mesh=arranged).train(stage, plan, progress, folder)
        gc.collect()  # engine and model hold each other: else a stage stays beside the next


@dataclass(frozen=True, kw_only=True)
class Run:
    """What all stages share: the ranks, where results lie, what is called out to, the steps in all."""

    mesh: Mesh
    run_dir: Path
    callbacks: Callbacks
    steps: int
    avoided: dict[int, str] = field(default_factory=dict)
    """Steps that the run went back from, and why: they are skipped when they come again."""

    def train(self, stage: Stage, plan: Plan, progress: Progress, folder: Path | None) -> None:
        """Train one stage, from `progress` and the weights of the checkpoint `folder`.

        It ends with the stage, or before where the run is to go back to its last checkpoint.
        """
        use_deterministic_kernels(stage.train.deterministic, self.mesh.device)
        batches = make_batches(stage, plan, self.mesh)
        kernel = choose_kernel(stage.train.kernel, self.mesh.device, DTYPES[stage.train.dtype])
        self.check_parity(stage, kernel)
        engine = self.engine(stage, batches.accumulation, folder, progress)
        guard = Guard(
            stage.train,
            self.mesh,
            before=taken(self.run_dir, progress.stage) if self.mesh.is_main else (),
            skipped=progress.skipped,
            avoided=self.avoided,
        )
        streaming = Streaming.of(stage.train, self.mesh, kernel)
        while progress.stage_step < stage.train.steps:
            after = self.step(engine, stage, batches, streaming, progress, guard)
            if after is None:
                break
            progress, done = after, after.stage_step
            if done % stage.train.checkpoint_every == 0 or done == stage.train.steps:
                save_checkpoint(self.run_dir, engine, stage, progress, plan, self.mesh)
            if stage.evaluate_every and done % stage.evaluate_every == 0:
                self.callbacks.on_evaluate(progress.step, engine.module.model)
        release(engine)

    def check_parity(self, stage: Stage, kernel: Kernel) -> None:
        """Refuse a layout that gives other gradients than one rank, and say what asking cost."""
        found = check_parity(stage, self.mesh, kernel, self.run_dir)
        if found and self.mesh.is_main:
            self.callbacks.say(
                f"parity: gradients of this layout are those of one rank to {found.difference:.1g} "
                f"({found.seconds:.1f} s)"
            )

    def engine(self, stage: Stage, accumulation: int, folder: Path | None, progress: Progress) -> Any:
        """Build the stage's model and engine, with the states of a checkpoint; cut the metrics to there."""
        model = install_scheme(build_model(stage, folder), stage)
        check_same_frequencies(model, self.mesh)
        model = for_training(model, gradient_checkpointing=stage.train.gradient_checkpointing)
        weights = float32_weights(model, folder)
        module = TokenLoss(model, chunk=stage.train.loss_chunk)
        engine = make_engine(module, stage.train, accumulation=accumulation)
        load_states(engine, weights, folder, progress.updates)
        if self.mesh.is_main:
            keep_until(self.run_dir, progress.step)
        return engine

    def step(
        self,
        engine: Any,
        stage: Stage,
        batches: Batches,
        streaming: Streaming,
        progress: Progress,
        guard: Guard,
    ) -> Progress | None:
        """Take one optimizer step, or skip it, and write its line of metrics.jsonl; None: go back instead."""
        settings, done = stage.train, progress.stage_step
        # Seeded by place and not by history, so that dropout too is the same after a resume.
        torch.manual_seed(hash((settings.seed, progress.step, self.mesh.rank)))
        schedule = settings.schedule.model_dump()
        rate = learning_rate(done, peak=settings.learning_rate, steps=settings.steps, **schedule)
        set_learning_rate(engine, rate)
        began = time.perf_counter()
        loss = accumulate(engine, batches, done, streaming)
        norm = gradient_norm(engine, self.mesh)
        verdict = guard.judge(progress.step + 1, (loss, norm))
        if verdict.answer == "back":
            return None
        skipped = verdict.answer == "skip"
        (drop_step if skipped else take_step)(engine)
        seconds = time.perf_counter() - began
        progress = progress.after(0 if skipped else settings.batch_tokens, skipped=skipped)
        record = StepRecord(
            step=progress.step,
            stage=progress.stage,
            loss=number(loss),
            grad_norm=number(norm),
            learning_rate=rate,
            tokens=progress.tokens,
            tokens_per_second=settings.batch_tokens / seconds,
            seconds=seconds,
            skipped=skipped,
            reason=verdict.why,
        )
        if self.mesh.is_main:
            record.write(self.run_dir)
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
    if empty := unlabelled_steps(plan, settings.steps, packs):
        raise TrainError(unlabelled_problem(empty, packs))
    return Batches(plan=plan, layout=mesh.layout, packs_per_step=packs, micro_batch=settings.micro_batch)
