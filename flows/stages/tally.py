"""Count what a recipe made, and say it at the end of a run."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Literal

from warehouse.wording import format_count

End = Literal["target", "max_calls", "no_more_seeds", "no_more_rounds", "budget", "interrupted"]
"""What ends a recipe's run."""


@dataclass
class Tally:
    """What a recipe made, by what became of it."""

    recipe: str
    target: int | None = None
    seeds: int = 0
    unanswered: int = 0
    """Seeds without a reply to one of their calls."""
    failed: int = 0
    """Seeds on which the recipe's code failed."""
    unfinished: int = 0
    """Seeds that need a call that was not made: by the budget, by max_calls or in a replay."""
    calls: int = 0
    examples: int = 0
    ok: int = 0
    """Examples to train on, duplicates left out."""
    refused: int = 0
    truncated: int = 0
    invalid: int = 0
    duplicate: int = 0
    """Ok examples that equal an earlier one, message for message."""
    surplus: int = 0
    """Ok examples beyond the target; kept in the warehouse, and not used."""
    reasons: Counter[str] = field(default_factory=Counter)
    """Why examples are not ok and seeds have none."""
    is_plain: bool = False
    """Whether each seed is one prompt, one call and one sample."""
    end: End | None = None
    """What ended it; None where it is not over, as in a replay that lacks calls."""
    ended: str | None = None
    """The same in words, with what to do about it."""

    @property
    def is_target_met(self) -> bool | None:
        """Whether there are as many ok examples as were asked for; None where no number was."""
        return None if self.target is None else self.ok >= self.target

    def note_end(self, end: End, why: str) -> None:
        """Note why no more seeds are started; the first reason stands."""
        if self.end is None:
            self.end, self.ended = end, why

    def as_json(self) -> dict[str, Any]:
        """For `--json` and the run's summary."""
        return {
            **vars(self),
            "reasons": dict(self.reasons.most_common(5)),
            "target_met": self.is_target_met,
        }

    def lines(self) -> list[str]:
        """What the end of a run says: never silently short. Nothing where each seed is one prompt,
        one call and one sample, and no number of them was asked for."""
        if self.is_plain:
            return []
        parts = [
            format_count(self.seeds, "seed"),
            format_count(self.calls, "call"),
            f"{self.ok:,} ok" + (f" of {self.target:,} wanted" if self.target else ""),
        ]
        for name in ("refused", "truncated", "invalid", "duplicate", "surplus", "unanswered",
                     "failed", "unfinished"):  # fmt: skip
            if number := getattr(self, name):
                parts.append(f"{number:,} {name}")
        lines = [f"{self.recipe}: {', '.join(parts)}"]
        lines += [f"  {number:,} x {reason}" for reason, number in self.reasons.most_common(3)]
        if self.is_target_met is False:
            why = f": {self.ended}" if self.ended else ""
            lines.append(f"  target = {self.target:,} is not met{why}")
        elif self.ended and (self.target is not None or self.end != "no_more_seeds"):
            lines.append(f"  {self.ended}")
        return lines
