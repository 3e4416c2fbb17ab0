"""How much was left out, and why? By reason: documents, and bytes (in reading) or tokens (in mixing)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping


class Counts(dict[str, dict[str, int]]):
    """Amounts by reason, in the form that reports and records keep; a reason once told keeps its zeros."""

    def add(self, reason: str, **amounts: int) -> None:
        """Count more of one reason."""
        before = self.setdefault(reason, {})
        for unit, amount in amounts.items():
            before[unit] = before.get(unit, 0) + amount

    @classmethod
    def total(cls, parts: Iterable[Mapping[str, Mapping[str, int]]]) -> Counts:
        """Sum over parts, reason by reason."""
        summed = cls()
        for part in parts:
            for reason, amounts in part.items():
                summed.add(reason, **amounts)
        return summed

    def times(self, factor: float) -> Counts:
        """Scale all amounts, to whole numbers."""
        return Counts(
            {
                reason: {unit: round(amount * factor) for unit, amount in amounts.items()}
                for reason, amounts in self.items()
            }
        )

    def having(self, unit: str) -> Counts:
        """Leave out the reasons that have none of a unit."""
        return Counts({reason: amounts for reason, amounts in self.items() if amounts.get(unit)})
