"""What was a model given? Its scheme and the frequencies of each kind of layer, told by a fingerprint."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass

from .families import FULL
from .relative import AttentionScheme
from .scheme import Base, Frequencies, Scheme


@dataclass(frozen=True, kw_only=True, eq=False)
class Installed:
    """Record what a model was given, by layer type."""

    scheme: Scheme
    target_length: int
    bases: dict[str, Base]
    frequencies: dict[str, Frequencies]
    not_expressible: str | None = None
    "why the model's config does not describe this scheme; None when it does"

    @classmethod
    def of(cls, bases: Mapping[str, Base], scheme: Scheme, target_length: int) -> Installed:
        """Give the scheme to the layers that see everything, and leave the others what they carry."""
        kept = {name: b.current.frequencies(b, target_length=b.trained_length) for name, b in bases.items()}
        full = scheme.frequencies(bases[FULL], target_length=target_length)
        return cls(
            scheme=scheme, target_length=target_length, bases=dict(bases), frequencies=kept | {FULL: full}
        )

    def at_length(self, layer_type: str, length: int) -> Frequencies:
        """Return the frequencies that hold in a whole sequence of `length` tokens."""
        if layer_type != FULL:
            return self.frequencies[layer_type]
        return self.scheme.frequencies(self.bases[FULL], target_length=self.target_length, length=length)

    @property
    def fingerprint(self) -> str:
        """Return the sha256 of all that decides how q and k are turned, in hex."""
        digest = hashlib.sha256()
        if self.scheme.depends_on_length or isinstance(self.scheme, AttentionScheme):
            # One set of frequencies does not tell these schemes apart.
            lengths = [self.bases[FULL].original_length, self.target_length]
            facts = [self.scheme.name, self.scheme.knobs, lengths]
            digest.update(json.dumps(facts, sort_keys=True).encode())
        for layer_type, frequencies in sorted(self.frequencies.items()):
            digest.update(f"{layer_type}:{frequencies.fingerprint};".encode())
        return digest.hexdigest()

    def is_like(self, other: Installed) -> bool:
        """Say whether q and k are turned alike: in the original window, beyond it, and at the target."""
        if isinstance(self.scheme, AttentionScheme) or isinstance(other.scheme, AttentionScheme):
            return self.scheme == other.scheme and self.fingerprint == other.fingerprint
        windows = {record.bases[FULL].original_length for record in (self, other)}
        lengths = windows | {window + 1 for window in windows} | {self.target_length, other.target_length}
        pairs = ((self.at_length(FULL, n), other.at_length(FULL, n)) for n in lengths)
        return all(ours.fingerprint == theirs.fingerprint for ours, theirs in pairs)
