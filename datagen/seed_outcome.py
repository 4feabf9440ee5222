"""Record what became of one seed: its samples and calls, or why it has none."""

from __future__ import annotations

from dataclasses import dataclass, field

from datagen.recipe import Seed
from warehouse.records import Prompt, Sample


@dataclass
class SeedOutcome:
    """What became of one seed."""

    seed: Seed
    prompt: Prompt
    samples: list[Sample] = field(default_factory=list)
    call_runs: list[tuple[str, str]] = field(default_factory=list)
    """Its calls in the order in which they were asked, each with the run that paid for it."""
    unanswered: str | None = None
    """Why it has no samples: a call without a reply. It is tried again by the next run."""
    fault: str | None = None
    """The exception of the recipe's code, with its place."""
    blocked: int = 0
    """Its calls that wait for a reply at this moment."""
    waits: bool = False
    """Whether it is unfinished, since a call that it needs may not be made (budget, dry replay)."""

    @property
    def is_finished(self) -> bool:
        """Whether it has its samples, all of them."""
        return self.unanswered is None and self.fault is None and not self.waits

    @property
    def call_ids(self) -> list[str]:
        """Its calls in the order in which they were asked."""
        return [call_id for call_id, _ in self.call_runs]
