"""May this student be promoted? Conditions of the plan against what was measured."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Checked:
    """One condition, as it stands in the plan, and what was measured."""

    condition: str
    met: bool | None
    """None: it could not be measured, which counts as not met."""
    measured: str
    """One phrase with numbers."""


@dataclass(frozen=True)
class ShipVerdict:
    """All conditions; the student may ship where every one is met."""

    checked: list[Checked]

    @property
    def ships(self) -> bool:
        """Whether every condition is met."""
        return all(one.met for one in self.checked)
