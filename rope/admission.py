"""May a model be given this scheme? What `install` refuses, from its config's numbers alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from .families import FULL, PARTIAL
from .record import Installed
from .scheme import Base, Scheme


def refusals(
    bases: Mapping[str, Base],
    scheme: Scheme,
    target_length: int,
    *,
    model_type: str,
    replace: bool,
    earlier: Installed | None = None,
) -> Iterator[str]:
    """Say why a scheme may not be installed; a RopeError where its frequencies cannot be computed at all.

    `earlier` is what was installed before; without it the model carries what its config says.
    """
    for base in bases.values():
        if base.rotary_dim != base.head_dim and model_type not in PARTIAL:
            yield (
                f"config.partial_rotary_factor: must be 1 for {model_type}, whose heads transformers turns "
                f"whole, got {base.rotary_dim} of {base.head_dim} channels; remove it"
            )
    base = bases[FULL]
    if base.window is not None and base.window < target_length:
        yield (
            f"config.sliding_window: must reach the target length of {target_length} tokens, "
            f"got {base.window}; set sliding_window to null"
        )
    carried = earlier or Installed.of(bases, base.current, base.trained_length)
    chosen = Installed.of(bases, scheme, target_length)
    # The same frequencies again are no change.
    if not replace and carried.scheme.name != "default" and not carried.is_like(chosen):
        was = carried.scheme
        yield (
            f"rope.kind: the model must carry no other scheme, got {was.name} {was.knobs} for "
            f"{carried.target_length} tokens under {scheme.name} for {target_length}; set rope.replace "
            "to true (install(..., replace=True)) to compute the new one from the unscaled frequencies"
        )
