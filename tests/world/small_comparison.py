"""The recipe of a small comparison, on the world of `small`."""

from pathlib import Path
from typing import Any

from world.small import recipe_of

RATES = [1e-9, 1e-2]


def comparison_of(folder: Path) -> dict[str, Any]:
    """Give a recipe that compares two schemes at 4x, with two learning rates of which one trains nothing."""
    values = recipe_of(folder)
    train = values["train"] | {"steps": 3, "sequence": 1, "batch_tokens": 512, "checkpoint_every": 3}
    tasks = {
        "loss": {"kind": "position_loss", "length": "${target_length}", "documents": 4},
        "needles": {"kind": "needles", "lengths": ["${target_length}"], "depths": [0.5], "per_cell": 2},
    }
    compare = {
        "schemes": [{"kind": "linear"}, {"kind": "yarn"}],
        "factors": [4],
        "learning_rates": RATES,
    }
    values["data"]["holdout"] = 0.4
    del values["rope"]
    return values | {
        "train": train,
        "eval": {"tasks": tasks},
        "compare": compare,
    }
