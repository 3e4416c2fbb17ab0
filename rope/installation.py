"""How does a loaded model get a scheme? In place, replacing the rotation and nothing else."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from .admission import refusals
from .bands import BandedAttention
from .families import FULL, ONLY_LONGROPE
from .generation import Requests
from .hf import read_base, rope_parameters
from .hook import NAME, IdentityRotation
from .keys import DUAL_CHUNK, LENGTHS
from .record import Installed
from .relative import AttentionScheme
from .rotation import Rotary
from .scheme import Base, NotExpressible, RopeError, Scheme


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

    `target_length` (tokens) defaults to the trained length, or to the installed one. The scheme goes to the
    layers that see the whole sequence; those with a sliding window keep their own. The config is brought in
    line where it can express the scheme. A model that already carries another scheme is refused unless
    `replace`; frequencies are computed from the unscaled ones either way, so schemes never stack.
    """
    decoder = _decoder(model)
    before = decoder.rotary_emb if isinstance(decoder.rotary_emb, InstalledRotation) else None
    earlier = before.installed if before else None
    bases = _bases(decoder.config, earlier, original_length=original_length, trained_length=trained_length)
    base = bases[FULL]
    carried = earlier or Installed.of(bases, base.current, base.trained_length)
    target_length = carried.target_length if target_length is None else target_length
    chosen = carried.scheme if scheme is None else scheme
    _check_arguments(chosen, target_length)
    kind = decoder.config.model_type
    why = list(refusals(bases, chosen, target_length, model_type=kind, replace=replace, earlier=earlier))
    if why:
        raise RopeError("\n".join(why))
    record = Installed.of(bases, chosen, target_length)
    layers = _attention_modules(decoder)
    reason = _describe(decoder.config, bases, chosen, target_length)
    record = dataclasses.replace(record, not_expressible=reason)
    turning = {name: _turning(record, name) for name in bases}
    for layer in layers:
        # A model without kinds of layers may still name one.
        kind = getattr(layer, "layer_type", None)
        layer.rotary = turning[kind if kind in turning else FULL]  # pyright: ignore[reportArgumentType]
    if before is not None:
        before.release()
    decoder.rotary_emb = InstalledRotation(base.head_dim, decoder, record)
    decoder.set_attn_implementation(NAME)
    return model


def installed(model: Any) -> Installed:
    """Return what `install` gave this model."""
    return _rotation(model).installed


@contextmanager
def stated_lengths(model: Any, lengths: Tensor | int) -> Iterator[None]:
    """State how many tokens each request may become, [B] or one number, to forwards that are not told.

    For `generate`, which passes no `lengths` on. Schemes that do not depend on the length ignore it.
    """
    requests = _rotation(model).requests
    if requests is None:
        yield
        return
    before, requests.stated = requests.stated, lengths
    try:
        yield
    finally:
        requests.stated = before


def _rotation(model: Any) -> InstalledRotation:
    rotation = _decoder(model).rotary_emb
    if not isinstance(rotation, InstalledRotation):
        raise RopeError(
            f"model: must have a scheme installed, got {type(rotation).__name__}; call rope.install(model)"
        )
    return rotation


def layer_fingerprint(model: Any) -> str:
    """Return the sha256 of what the layers really hold to turn q and k by, in hex."""
    digest = hashlib.sha256(installed(model).fingerprint.encode())
    for layer in _attention_modules(_decoder(model)):
        turning: Any = layer.rotary
        digest.update(turning.frequencies.fingerprint.encode())
    return digest.hexdigest()


class InstalledRotation(IdentityRotation):
    """Turn nothing, and remember what was installed."""

    def __init__(self, head_dim: int, decoder: Any, record: Installed) -> None:
        super().__init__(head_dim, decoder.config)
        self.installed = record
        self.requests = Requests(record) if record.scheme.depends_on_length else None
        self._hooks: list[Any] = []
        if self.requests is not None:
            self._hooks = [
                decoder.register_forward_pre_hook(self.requests.before, with_kwargs=True),
                decoder.register_forward_hook(self.requests.after, with_kwargs=True),
            ]

    def release(self) -> None:
        """Take back what was hung on the decoder."""
        for hook in self._hooks:
            hook.remove()


def _turning(record: Installed, layer_type: str) -> Rotary | BandedAttention:
    """Return what turns q and k in the layers of one type."""
    frequencies = record.frequencies[layer_type]
    if layer_type == FULL and isinstance(record.scheme, AttentionScheme):
        base = record.bases[FULL]
        return BandedAttention(record.scheme, base, frequencies, target_length=record.target_length)
    depends = layer_type == FULL and record.scheme.depends_on_length
    return Rotary(frequencies, by_length=record if depends else None)


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


def _bases(config: Any, before: Installed | None, **lengths: int | None) -> Mapping[str, Base]:
    """Return the bases the model came with: the recorded ones, since installing has rewritten the config."""
    if before is None:
        return read_base(config, **lengths)
    given: dict[str, Any] = {name: value for name, value in lengths.items() if value is not None}
    if "original_length" in given:
        given["guesses"] = ()
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


def _describe(config: Any, bases: Mapping[str, Base], scheme: Scheme, target_length: int) -> str | None:
    """Bring the config in line with the scheme, or return why it cannot be."""
    try:
        parameters = rope_parameters(config.model_type, bases, scheme, target_length=target_length)
    except NotExpressible as reason:
        return str(reason)
    config.rope_parameters = parameters
    if hasattr(config, DUAL_CHUNK):
        delattr(config, DUAL_CHUNK)
    for name in ("max_position_embeddings", *LENGTHS):
        if getattr(config, name, None) is not None:
            setattr(config, name, scheme.hf_window(bases[FULL], target_length=target_length))
    # Transformers lets this attribute, where there is one, win over the scheme's own.
    if config.model_type in ONLY_LONGROPE:
        config.original_max_position_embeddings = bases[FULL].original_length
    elif hasattr(config, "original_max_position_embeddings"):
        del config.original_max_position_embeddings
    return None
