"""How far gradients are from a reference, as one number."""

from collections.abc import Mapping

import torch
from torch import Tensor


def relative_error(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> float:
    """Return norm(found - wanted) / norm(wanted) over all parameters, in float64."""
    assert found.keys() == wanted.keys()
    off, whole = (
        torch.stack([tensor.double().norm() for tensor in tensors]).norm()
        for tensors in ([found[name].double() - wanted[name].double() for name in wanted], wanted.values())
    )
    return float(off / whole)
