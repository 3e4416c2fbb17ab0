"""Where does a run stand, and is it this recipe that goes on with it? Read from a checkpoint, without torch.

A resume compares `Stage.numbers`, which come from `numbers` in recipes/language/schema.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..data import Plan
from ..rope import Scheme, make_scheme
from ..rope.engines.texts import our_faults
from .errors import TrainError
from .settings import Stage, differing
from .storage import read_json


@dataclass(frozen=True, kw_only=True)
class Progress:
    """Where a run stands: all that a resume needs beside weights and optimizer state."""

    step: int = 0
    """Optimizer steps done over all stages, those that were skipped too."""
    stage: int = 0
    stage_step: int = 0
    """Optimizer steps done in this stage; the data position is this times the packs of a step."""
    tokens: int = 0
    """Tokens trained on so far, without those of skipped steps."""
    skipped: tuple[int, ...] = ()
    """The steps that were not taken, as metrics.jsonl numbers them."""

    @property
    def updates(self) -> int:
        """Count the steps that were taken, which is AdamW's own count."""
        return self.step - len(self.skipped)

    def after(self, tokens: int, *, skipped: bool) -> Progress:
        """Stand one step further, and `tokens` more trained on."""
        step = self.step + 1
        return Progress(
            step=step,
            stage=self.stage,
            stage_step=self.stage_step + 1,
            tokens=self.tokens + tokens,
            skipped=(*self.skipped, step) if skipped else self.skipped,
        )

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Progress:
        """Read the values of a checkpoint; one from before steps could be skipped has taken all."""
        return cls(**{**values, "skipped": tuple(values.get("skipped", ()))})


def read_provenance(folder: Path, *needed: str) -> dict[str, Any]:
    """Read what a checkpoint says of itself: its rope, and what else is needed."""
    about = read_json(folder / "ropewalk.json")
    faults = list(our_faults(about))
    if missing := [key for key in needed if key not in about]:
        faults.append(f"ropewalk.json: must say {', '.join(missing)}, got nothing of it; take the run's own")
    if faults:
        raise TrainError("\n".join(f"{folder}: {fault}" for fault in faults))
    return about


def own_scheme(folder: Path) -> tuple[Scheme, int] | None:
    """Return the scheme and target length that only this folder's ropewalk.json can tell, if there is one."""
    if not (folder / "ropewalk.json").is_file():
        return None
    rope = read_provenance(folder)["rope"]
    if not rope.get("not_expressible"):
        return None
    return make_scheme(rope["scheme"], **rope["knobs"]), rope["target_length"]


def latest_checkpoint(run_dir: Path) -> Path | None:
    """Return the newest complete checkpoint of a run directory."""
    pointer = run_dir / "latest"
    if not pointer.is_file():
        return None
    kept, name = run_dir / "checkpoints", pointer.read_text(encoding="utf-8", errors="replace").strip()
    folder = kept / name
    if not name or not folder.is_dir():
        raise TrainError(
            f"{pointer}: must name a checkpoint folder, got {name or 'nothing'}; write the name of one of "
            f"{[p.name for p in sorted(kept.glob('step-*'))]} into it"
        )
    return folder


def read_progress(folder: Path, stages: Sequence[Stage]) -> Progress:
    """Read where a checkpoint stands; values that matter must be those of the recipe that continues it."""
    kept = read_provenance(folder, "progress", "recipe", "numbers")
    progress = Progress.of(kept["progress"])
    if progress.stage >= len(stages):
        raise TrainError(
            f"{folder}: the recipe must have the stages this run began with, at least {progress.stage + 1}, "
            f"got {len(stages)}; restore them or choose another run_dir"
        )
    stage = stages[progress.stage]
    if kept["recipe"] != stage.fingerprint:
        lines = differing(stage.numbers, kept["numbers"])
        raise TrainError(
            f"{folder}: the recipe must be the one this run began with, got {'; '.join(lines)}; "
            "restore these values or choose another run_dir"
        )
    return progress


def check_same_data(folder: Path, plan: Plan) -> None:
    """Refuse to continue on other tokens than the checkpoint was trained on; say which fields differ."""
    kept = read_provenance(folder, "plan", "corpus")
    prints = {"plan": plan.fingerprint, "corpus": plan.corpus_fingerprint}
    others = [name for name in prints if kept[name] != prints[name]]
    if others:
        was, now = (", ".join(f"{name} {these[name][:12]}" for name in others) for these in (kept, prints))
        lines = "".join(f", {line}" for line in differing(plan.about, kept.get("data", {})))
        raise TrainError(
            f"{folder}: the prepared data must be what this run began with, {was}, got {now}{lines}; "
            "restore the prepared data of this run or choose another run_dir"
        )
