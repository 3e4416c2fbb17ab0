"""A model ready to train: loaded or drawn, its scheme installed, its layers checkpointed."""

from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel
from transformers.models.auto import CONFIG_MAPPING

from ..rope import install, layer_fingerprint
from .errors import TrainError
from .mesh import Mesh
from .settings import ModelSection, Stage

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def build_model(stage: Stage, weights: Path | None = None) -> PreTrainedModel:
    """Load `weights` (a checkpoint), else the stage's own model folder, else draw one from `train.seed`.

    A checkpoint's config describes the scheme that is installed, perhaps as another theta, and schemes are
    computed from the theta before it: so the config is always that of the recipe's model.
    """
    dtype, config = DTYPES[stage.train.dtype], config_of(stage.model)
    source = weights or (Path(stage.model.path) if stage.model.path else None)
    if source is None:
        torch.manual_seed(stage.train.seed)
        return AutoModelForCausalLM.from_config(config, dtype=dtype)
    return load_model(source, dtype, config=config)


def install_scheme(model: PreTrainedModel, stage: Stage) -> PreTrainedModel:
    """Install the stage's scheme for its target."""
    return install(
        model,
        stage.scheme,
        target_length=stage.target_length,
        replace=stage.replace,
        original_length=original_length(stage),
        trained_length=stage.trained_length,
    )


def check_same_frequencies(model: PreTrainedModel, mesh: Mesh) -> None:
    """Refuse to start where a rank's layers would turn q and k otherwise than rank 0's do; a collective."""
    if mesh.layout.world == 1:
        return
    mine = layer_fingerprint(model)
    found: list[str] = [""] * mesh.layout.world
    dist.all_gather_object(found, mine)
    others = [f"rank {rank} {told[:12]}" for rank, told in enumerate(found) if told != found[0]]
    if others:
        raise TrainError(
            f"rope: every rank must turn q and k alike, got {', '.join(others)} and rank 0 {found[0][:12]}; "
            "give every rank the same model folder, recipe and ropewalk"
        )


def original_length(stage: Stage) -> int | None:
    """Return the window of the unscaled frequencies where the recipe, and not the model, says it."""
    if stage.original_length is None and stage.model.from_scratch:
        return config_of(stage.model).max_position_embeddings
    return stage.original_length


def load_model(folder: Path, dtype: torch.dtype = torch.float32, config: Any = None) -> PreTrainedModel:
    more = {} if config is None else {"config": config}
    return AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, local_files_only=True, **more)


def config_of(model: ModelSection) -> Any:
    """Return the Hugging Face config of a model: its folder's, or the one it is drawn from."""
    if model.path is not None:
        return AutoConfig.from_pretrained(model.path, local_files_only=True)
    values = dict(model.config or {})
    return CONFIG_MAPPING[values.pop("model_type", "llama")](**values)


def for_training(model: PreTrainedModel, *, gradient_checkpointing: bool) -> PreTrainedModel:
    model.train()
    if gradient_checkpointing:
        # transformers 5.2x renames the switch and warns about the old name
        old = model.gradient_checkpointing_enable
        getattr(model, "activation_checkpointing_enable", old)({"use_reentrant": False})
    return model
