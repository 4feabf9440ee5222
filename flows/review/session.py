"""Hold the samples under review, in order, and record the decisions about them.

The warehouse is locked only while a decision is written, so runs are not blocked.
"""

from __future__ import annotations

import dataclasses
import threading
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from distill.plan.plan import Plan
from quality.review.agreement import Agreement, Reading, agreements, readings
from quality.review.decisions import (
    HUMAN,
    TRAINABLE,
    accept,
    decisions,
    edit,
    hidden,
    queue,
    reject,
    withdraw,
)
from warehouse.catalog import name_of, options_of
from warehouse.db.store import Store
from warehouse.errors import NothingToDoError
from warehouse.records import Choice, Record, Run, Sample, Score
from warehouse.wording import format_count

Only = Literal["undecided", "all", "dropped", "kept"]


class Decision(BaseModel):
    """What the page sends."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    sample_id: str
    verdict: Literal["accept", "reject", "edit", "undo"]
    comment: str = ""
    text: str = ""
    """The new completion, of an edit."""


class Session:
    """Samples under review, in order, and what was decided of them."""

    def __init__(
        self, plan: Plan, store: Store, only: Only = "undecided", limit: int | None = None
    ):
        """Read all that is to be shown; the warehouse is closed again after it.

        Raises:
            NothingToDoError: nothing of the plan was chosen from yet, or nothing is left to look at.
        """
        self.plan, self.store = plan, store
        chosen = _choices(plan, store)
        samples = store.by_ids(Sample, "sample_id", [choice.sample_id for choice in chosen])
        if not samples:
            raise NothingToDoError("no samples of this plan yet; run `distill curate PLAN` first")
        scores = store.by_ids(Score, "sample_id", [sample.sample_id for sample in samples])
        scores = [score for score in scores if _is_of_plan(score, plan)]
        self.human = store.read(Score, "scorer = ?", [HUMAN])
        bounds = plan.quality.gate.bounds
        self.choices = {choice.sample_id: choice for choice in chosen}
        self.readings = readings(samples, scores, bounds)
        decided = decisions(self.human)
        order = queue(samples, [*scores, *self.human], bounds, chosen)
        self.samples = [s for s in order if self._is_wanted(s, decided, only)][:limit]
        if not self.samples:
            raise NothingToDoError(
                f"none of {format_count(len(samples), 'sample')} is {only}; "
                "`distill review PLAN --only all` shows every sample"
            )
        self.by_id = {sample.sample_id: sample for sample in self.samples}
        ids = [(score.details or {}).get("edited_to", "") for score in decided.values()]
        self.edits = {s.sample_id: s for s in store.by_ids(Sample, "sample_id", ids)}
        self._own_decisions: set[str] = set()
        self._lock = threading.Lock()

    def _is_wanted(self, sample: Sample, decided: dict[str, Score], only: Only) -> bool:
        kept = self.choices[sample.sample_id].kept
        return {
            "undecided": sample.sample_id not in decided,
            "all": True,
            "dropped": not kept,
            "kept": kept,
        }[only]

    def decide(self, wanted: Decision) -> dict[str, Any]:
        """Write one decision and return the state of the review; memory changes only after the write.

        Raises:
            KeyError: the sample is not under review.
            ValueError: an edit that cannot be kept, or nothing to undo.
            WarehouseError: it could not be written.
        """
        sample = self.by_id[wanted.sample_id]
        with self._lock:
            new: list[Sample] = []
            if wanted.verdict == "undo":
                decision = decisions(self.human).get(sample.sample_id)
                if decision is None:
                    raise ValueError("this sample is not decided; there is nothing to undo")
                scores = [withdraw(decision)]
            elif wanted.verdict == "edit" or _overrides_recipe(wanted, sample):
                text = wanted.text if wanted.verdict == "edit" else sample.completion
                edited, scores = edit(sample, text, wanted.comment)
                new = [edited]
            else:
                judge = accept if wanted.verdict == "accept" else reject
                scores = [judge(sample, wanted.comment)]
            written: list[Record] = [*new, *scores]
            self.store.insert(written)
            self.human += scores
            self.edits |= {edited.sample_id: edited for edited in new}
            self._own_decisions |= {score.score_id for score in scores}
        return {**self.standing(), "decision": self._decision(sample.sample_id)}

    def standing(self) -> dict[str, Any]:
        """Which samples are decided, and how far the scorers agree."""
        decided = decisions(self.human)
        return {
            "decided": [sample.sample_id in decided for sample in self.samples],
            "agreement": [dataclasses.asdict(row) for row in self.agreements()],
        }

    @property
    def made(self) -> int:
        """How many samples under review owe their state to a decision of this session."""
        decided = decisions(self.human)
        return sum(
            sample_id in decided and decided[sample_id].score_id in self._own_decisions
            for sample_id in self.by_id
        )

    def agreements(self) -> list[Agreement]:
        """Of all decisions on the selection, also those of earlier days."""
        return agreements(self.readings, decisions(self.human))

    def view(self, number: int) -> dict[str, Any]:
        """All that the page shows of one sample.

        Raises:
            IndexError: there is no such number.
        """
        sample = self.samples[number]
        choice = self.choices[sample.sample_id]
        last = str(sample.messages[-1].get("content", "")) if sample.messages else ""
        return {
            "sample_id": sample.sample_id,
            "recipe": sample.recipe,
            "status": _status(sample),
            "question": sample.question or last,
            "reference": sample.reference,
            "passage": sample.passage,
            "completion": sample.completion,
            "hidden": hidden(sample.completion),
            "kept": choice.kept,
            "reasons": [reason for reason in choice.reasons if not reason.startswith("status:")],
            "details": _detail_lines(choice.details or {}),
            "scores": [_score_row(reading) for reading in self.readings[sample.sample_id]],
            "decision": self._decision(sample.sample_id),
        }

    def _decision(self, sample_id: str) -> dict[str, Any] | None:
        decision = decisions(self.human).get(sample_id)
        if decision is None:
            return None
        details = decision.details or {}
        edited = self.edits.get(details.get("edited_to", ""))
        same = edited is not None and edited.completion == self.by_id[sample_id].completion
        accepted = same or decision.value == 1.0
        verdict = "accepted" if accepted else "edited" if edited else "rejected"
        return {
            "verdict": verdict,
            "comment": details.get("comment", ""),
            "text": edited.completion if edited else None,
        }


def _overrides_recipe(wanted: Decision, sample: Sample) -> bool:
    """Whether a human accepts a sample whose status is not trainable."""
    return wanted.verdict == "accept" and sample.status not in TRAINABLE


def _choices(plan: Plan, store: Store) -> list[Choice]:
    """The newest selection of the plan's samples by this gate.

    Raises:
        NothingToDoError: another gate chose last; its choices would mislead.
    """
    own = plan.as_json()
    curated = sorted(
        (run for run in store.read(Run) if "selection_id" in run.summary),
        key=lambda run: run.finished_at or run.started_at,
    )
    same_recipes = [
        run for run in curated if run.plan["datagen"]["recipe"] == own["datagen"]["recipe"]
    ]
    same_gate = [run for run in same_recipes if run.plan["quality"] == own["quality"]]
    if same_gate:
        return store.read(Choice, "selection_id = ?", [same_gate[-1].summary["selection_id"]])
    if same_recipes:
        raise NothingToDoError(
            f"[quality] of plan '{plan.name}' is not what its samples were curated with; run "
            "`distill curate PLAN` first (nothing is scored or paid for twice)"
        )
    return []


def _status(sample: Sample) -> str:
    return f"{sample.status}: {sample.status_reason}" if sample.status_reason else sample.status


def _is_of_plan(score: Score, plan: Plan) -> bool:
    return any(
        (score.scorer, score.version, score.options)
        == (name_of(scorer), scorer.version, options_of(scorer))
        for scorer in plan.quality.scorers
    )


def _detail_lines(details: dict[str, Any]) -> list[str]:
    """The held-out item or the duplicate that was matched, a line each."""
    return [
        f"{name.replace('_', ' ')}: " + ", ".join(f"{key} {value}" for key, value in met.items())
        for name, met in details.items()
        if name != "why" and isinstance(met, dict)
    ]


def _score_row(reading: Reading) -> dict[str, Any]:
    bound = None
    if reading.bound is not None:
        bound = f"{'at least' if reading.is_least else 'at most'} {reading.bound:g}"
    return {
        "name": reading.name,
        "value": reading.value,
        "bound": bound,
        "state": reading.state,
        "why": reading.why,
    }
