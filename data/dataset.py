"""How does a plain Hugging Face Trainer, or any torch loop, train on a plan?"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from .errors import DataError
from .plan import IGNORED, Plan, open_plan


class PackDataset:
    """A map-style dataset of a plan's packs, for torch's DataLoader and transformers' Trainer.

    Models of transformers mask packed documents by `position_ids` where they get no `attention_mask` and keep
    no cache (Trainer's default): attention is cut wherever a position is not the one before and one. With
    flash attention they do so in batches of one pack only. Labels are shifted back, for these models shift
    them.
    """

    def __init__(self, plan: Plan | str | Path) -> None:
        """Take a plan or its folder; a DataError names the sources whose attention scope positions cannot
        tell."""
        self.plan = plan if isinstance(plan, Plan) else open_plan(plan)
        told = self.plan.manifest["spec"]["sources"]
        wrong = {
            name: f"{source['positions']} with groups: {source['groups']}"
            for name, source in told.items()
            if source["weight"] != 0 and not _tells_its_groups(source["groups"], source["positions"])
        }
        if wrong:
            raise DataError(
                "\n".join(
                    f"data.sources.{name}.positions: must tell transformers who attends to whom, got {got}; "
                    "leave positions out, or train with `ropewalk extend`"
                    for name, got in wrong.items()
                )
            )

    def __len__(self) -> int:
        return len(self.plan)

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        """Give int64 arrays [length]: `input_ids`, `position_ids` and `labels`."""
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        window = self.plan.read(index % len(self), 0, self.plan.length)
        labels = np.concatenate([[IGNORED], window.labels[:-1]])
        return {"input_ids": window.tokens, "position_ids": window.positions, "labels": labels}


def _tells_its_groups(groups: str, positions: str | None) -> bool:
    """Say whether positions restart exactly where attention does."""
    follows = "reset" if groups == "document" else "continuous"
    return positions in (None, follows) or (groups, positions) == ("pack", "reset")
