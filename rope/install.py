"""How does a loaded model get a scheme? In place, replacing the rotation and nothing else."""

from __future__ import annotations

import dataclasses
import hashlib
from dataclasses import dataclass
from typing import Any

from torch import nn

from .attention import NAME, IdentityRotation
from .base import Base, RopeError
from .hf import read_base
from .rotation import Rotary
from .scheme import Frequencies, NotExpressible, Scheme


@dataclass(frozen=True, kw_only=True, eq=False)
class Installed:
    """Record what a model was given, by layer type."""

    scheme: Scheme
    target_length: int
    bases: dict[str, Base]
    frequencies: dict[str, Frequencies]
    not_expressible: str | None = None
    "why the model's config does not describe this scheme; None when it does"

    @property
    def fingerprint(self) -> str:
        """Return the sha256 of the frequencies of every layer type, in hex."""
        digest = hashlib.sha256()
        for layer_type, frequencies in sorted(self.frequencies.items()):
            digest.update(f"{layer_type}:{frequencies.fingerprint};".encode())
        return digest.hexdigest()


def install(
    model: Any,
    scheme: Scheme | None = None,
    *,
    target_length: int | None = None,
    replace: bool = False,
    original_length: int | None = None,
    trained_length: int | None = None,
) -> Any:
    """Give a loaded Hugging Face model a scheme, in place, and return it; None keeps the scheme it carries.

    `target_length` (tokens) defaults to the trained length, or to the installed one. The config is brought in
    line where it can express the scheme. A model that already carries another scheme is refused unless
    `replace`; frequencies are computed from the unscaled ones either way, so schemes never stack.
    """
    decoder = _decoder(model)
    before = decoder.rotary_emb.installed if isinstance(decoder.rotary_emb, InstalledRotation) else None
    bases = _bases(decoder.config, before, original_length=original_length, trained_length=trained_length)
    base = bases["full_attention"]
    carried, carried_length = (
        (before.scheme, before.target_length) if before else (base.current, base.trained_length)
    )
    target_length = carried_length if target_length is None else target_length
    chosen = carried if scheme is None else scheme
    _check_arguments(chosen, target_length)
    frequencies = {name: chosen.frequencies(b, target_length=target_length) for name, b in bases.items()}
    if not replace and carried.name != "default":
        held = {name: carried.frequencies(b, target_length=carried_length) for name, b in bases.items()}
        _check_not_stacked(carried, chosen, held, frequencies)
    layers = _attention_modules(decoder)
    record = Installed(
        scheme=chosen,
        target_length=target_length,
        bases=bases,
        frequencies=frequencies,
        not_expressible=_describe(decoder.config, base, chosen, target_length),
    )
    rotary = Rotary(frequencies["full_attention"])
    for layer in layers:
        layer.rotary = rotary  # pyright: ignore[reportArgumentType]
    decoder.rotary_emb = InstalledRotation(base.head_dim, decoder.config, record)
    decoder.set_attn_implementation(NAME)
    return model


def installed(model: Any) -> Installed:
    """Return what `install` gave this model."""
    rotation = _decoder(model).rotary_emb
    if not isinstance(rotation, InstalledRotation):
        raise RopeError(
            f"model: must have a scheme installed, got {type(rotation).__name__}; call rope.install(model)"
        )
    return rotation.installed


class InstalledRotation(IdentityRotation):
    """Turn nothing, and remember what was installed."""

    def __init__(self, head_dim: int, config: Any, record: Installed) -> None:
        super().__init__(head_dim, config)
        self.installed = record


def _decoder(model: Any) -> Any:
    """Return the one module that owns the rotary embedding, inside whatever wraps it."""
    # Wrappers answer for attributes of what they wrap, so ask who holds the module.
    owners = [module for module in model.modules() if "rotary_emb" in module._modules]
    if len(owners) != 1:
        raise RopeError(
            f"model: must hold exactly one decoder with a rotary_emb, got {len(owners)} in "
            f"{type(model).__name__}; install on the language model itself"
        )
    return owners[0]


def _attention_modules(decoder: Any) -> list[nn.Module]:
    """Return the attention of every layer."""
    found = [
        module for module in decoder.modules() if hasattr(module, "layer_idx") and hasattr(module, "head_dim")
    ]
    expected = decoder.config.num_hidden_layers
    if len(found) != expected:
        raise RopeError(
            f"model: must have one attention module for each of its {expected} layers, got {len(found)}; "
            "install before layers are removed or wrapped"
        )
    return found


def _bases(config: Any, before: Installed | None, **lengths: int | None) -> dict[str, Base]:
    """Return the bases the model came with: the recorded ones, since installing has rewritten the config."""
    if before is None:
        bases = read_base(config, **lengths)
        for base in bases.values():
            if base.rotary_dim != base.head_dim:
                raise RopeError(
                    f"config.partial_rotary_factor: must be 1 for {config.model_type}, whose heads "
                    f"transformers turns whole, got {base.rotary_dim} of {base.head_dim} channels; remove it"
                )
        return bases
    given = {name: value for name, value in lengths.items() if value is not None}
    return {name: dataclasses.replace(base, **given) for name, base in before.bases.items()}


def _check_arguments(scheme: object, target_length: object) -> None:
    """Refuse what is no scheme and what is no length."""
    if not isinstance(scheme, Scheme):
        raise RopeError(
            f"rope.install: scheme must be a Scheme, got {scheme!r}; "
            "make one with rope.make_scheme(name, knob=value)"
        )
    if not isinstance(target_length, int) or isinstance(target_length, bool) or target_length < 1:
        raise RopeError(
            f"rope.install: target_length must be a whole number of at least 1 token, got {target_length!r}; "
            "write the window in tokens"
        )


def _check_not_stacked(
    carried: Scheme, chosen: Scheme, held: dict[str, Frequencies], wanted: dict[str, Frequencies]
) -> None:
    """Refuse to take the place of another scheme unasked; the same frequencies again are no change."""
    if any(held[name].fingerprint != wanted[name].fingerprint for name in held):
        raise RopeError(
            f"rope.kind: the model must carry no other scheme, got {carried.name} {carried.knobs} under "
            f"{chosen.name}; set rope.replace to true (install(..., replace=True)) to compute the new one "
            "from the unscaled frequencies"
        )


def _describe(config: Any, base: Base, scheme: Scheme, target_length: int) -> str | None:
    """Bring the config in line with the scheme, or return why it cannot be."""
    try:
        parameters = scheme.to_hf(base, target_length=target_length)
    except NotExpressible as reason:
        return str(reason)
    config.rope_parameters = parameters
    config.max_position_embeddings = scheme.hf_window(base, target_length=target_length)
    # Transformers lets this attribute, where there is one, win over the scheme's own.
    if hasattr(config, "original_max_position_embeddings"):
        del config.original_max_position_embeddings
    return None
