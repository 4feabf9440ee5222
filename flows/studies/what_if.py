"""Apply another gate to recorded samples and scores; nothing is run or written."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from distill.plan.plan import load_plan
from distill.plan.project import open_store
from flows.stages.curated import Curated
from flows.stages.gate_inputs import GateInputs
from flows.stages.recorded import choose_recorded_samples, settle_recorded_samples
from warehouse.errors import NothingToDoError, PlanError


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
    settled = settle_recorded_samples(now, store)
    inputs = GateInputs(store, now.name)
    before = choose_recorded_samples(now, settled, inputs, with_details=False)
    after = choose_recorded_samples(then, settled, inputs, with_details=False)
    if all("not scored" in reason for reason in before.reasons):
        raise NothingToDoError(
            f"no sample of plan '{now.name}' is scored yet; run `distill curate {plan_path}` first"
        )
    gained = _changed(before, after, wanted=True)
    lost = _changed(before, after, wanted=False)
    return {
        "changes": list(changes),
        "samples": len(before.sample_set),
        "kept_now": before.kept_count,
        "kept_then": after.kept_count,
        "reasons_now": _dropped(before),
        "reasons_then": _dropped(after),
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


def _dropped(curated: Curated) -> dict[str, int]:
    return {reason: n for reason, n in curated.reasons.most_common() if reason != "kept"}


def _changed(before: Curated, after: Curated, wanted: bool) -> list[dict[str, str]]:
    """The samples that are kept after the change alone (`wanted`), or before it alone."""
    dropped = (before if wanted else after).choice_rows["reason"]
    changed = (before.choice_rows["kept"] != wanted) & (after.choice_rows["kept"] == wanted)
    rows = changed.arg_true().to_list()
    samples = (sample for block in before.sample_set.blocks(rows) for sample in block)
    return [
        {
            "sample_id": sample.sample_id,
            "question": sample.question,
            "completion": sample.completion,
            "reason": reason,
        }
        for sample, reason in zip(samples, dropped.gather(rows), strict=True)
    ]
