"""Apply another gate to recorded samples and scores; nothing is run or written."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from distill.plan.plan import load_plan
from distill.plan.project import open_store
from flows.stages.recorded import choose_recorded_samples
from warehouse.errors import NothingToDoError, PlanError
from warehouse.records import Choice, Sample


def what_if(plan_path: str, overrides: Sequence[str], changes: Sequence[str]) -> dict[str, Any]:
    """Compare what the plan's gate keeps with what it would keep under changes.

    Args:
        plan_path: The plan file.
        overrides: The plan's overrides.
        changes: `gate.grounded_min=0.8`, `duplicates.near=0.8`: keys of `[quality]`.

    Returns:
        Counts kept now and then, reasons now and then, samples gained and lost.

    Raises:
        PlanError: a change is not of `[quality]`.
        NothingToDoError: there are no recorded samples to choose from.
    """
    full = [_of_quality(change) for change in changes]
    now = load_plan(plan_path, overrides)
    then = load_plan(plan_path, [*overrides, *full])
    then.require("curate")
    store = open_store(now)
    samples, before = choose_recorded_samples(now, store)
    _, after = choose_recorded_samples(then, store)
    if all("not scored" in choice.reason for choice in before):
        raise NothingToDoError(
            f"no sample of plan '{now.name}' is scored yet; run `distill curate {plan_path}` first"
        )
    pairs = list(zip(samples, before, after, strict=True))
    gained = [_shown(sample, old) for sample, old, new in pairs if new.kept and not old.kept]
    lost = [_shown(sample, new) for sample, old, new in pairs if old.kept and not new.kept]
    return {
        "changes": list(changes),
        "samples": len(samples),
        "kept_now": sum(choice.kept for choice in before),
        "kept_then": sum(choice.kept for choice in after),
        "reasons_now": _reasons(before),
        "reasons_then": _reasons(after),
        "gained": gained,
        "lost": lost,
    }


def _of_quality(change: str) -> str:
    key = change.partition("=")[0].strip().removeprefix("quality.")
    if key.partition(".")[0] not in ("gate", "duplicates", "decontaminate") or "=" not in change:
        raise PlanError(
            f"--what-if takes a key of the gate, such as gate.grounded_min=0.8 or "
            f"duplicates.near=0.8, not '{change}'"
        )
    return f"quality.{change.strip().removeprefix('quality.')}"


def _reasons(choices: Sequence[Choice]) -> dict[str, int]:
    return dict(Counter(choice.reason for choice in choices if not choice.kept).most_common())


def _shown(sample: Sample, dropped: Choice) -> dict[str, str]:
    return {
        "sample_id": sample.sample_id,
        "question": sample.question,
        "completion": sample.completion,
        "reason": dropped.reason,
    }
