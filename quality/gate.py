"""The gate: scores -> choices, each with its first reason and all its reasons."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, model_serializer, model_validator

from quality.benchmark import Item
from warehouse.catalog import names
from warehouse.records import Choice, Sample, Score, make_id
from warehouse.rows import normalise


class GatePolicy(BaseModel):
    """`[quality] gate`: thresholds `<scorer>_min` and `<scorer>_max`, and these."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    thresholds: dict[str, float] = Field(default_factory=dict)
    keep_abstained: bool = False
    """Keep a sample although a scorer with a threshold abstained."""
    keep_truncated: bool = False
    """Keep a sample whose reply was cut off; `[datagen] on_length = "keep"` sets it."""
    max_words: int | None = Field(default=None, ge=1)
    """Longest completion in words."""

    @model_validator(mode="before")
    @classmethod
    def _flat(cls, given: Any) -> Any:
        """Threshold keys stand beside the others in the plan."""
        if not isinstance(given, dict):
            return given
        known = cls._threshold_keys()
        thresholds = {key: value for key, value in given.items() if key in known}
        others = {key: value for key, value in given.items() if key not in known}
        if thresholds:
            others["thresholds"] = thresholds
        return others

    @model_serializer
    def _as_given(self) -> dict[str, Any]:
        options = {
            "keep_abstained": self.keep_abstained,
            "keep_truncated": self.keep_truncated,
            "max_words": self.max_words,
        }
        return {**self.thresholds, **options}

    @classmethod
    def _threshold_keys(cls) -> list[str]:
        return [f"{name}_{end}" for name in names("scorer") for end in ("min", "max")]

    @classmethod
    def allowed_keys(cls) -> list[str]:
        """Every key the table may have."""
        return sorted([*cls._threshold_keys(), "keep_abstained", "keep_truncated", "max_words"])


@dataclass(frozen=True)
class HeldOut:
    """The benchmark items of a plan, as normalised questions and passages."""

    questions: frozenset[str]
    passages: frozenset[str]

    @classmethod
    def of(cls, items: Iterable[Item]) -> HeldOut:
        """Take up the items of all benchmarks."""
        rows = [item.row for item in items]
        return cls(
            frozenset(normalise(row.prompt) for row in rows),
            frozenset(normalise(row.passage) for row in rows if row.passage),
        )

    @property
    def digest(self) -> str:
        """Hash of all of it."""
        return make_id(sorted(self.questions), sorted(self.passages))

    def matches(self, sample: Sample) -> str | None:
        """`question` or `passage`, if the sample shares it with a held-out item."""
        if normalise(sample.question) in self.questions:
            return "question"
        if sample.passage and normalise(sample.passage) in self.passages:
            return "passage"
        return None


def selection_id_of(
    sample_ids: Sequence[str],
    scorers: Sequence[Mapping[str, Any]],
    policy: GatePolicy,
    held_out: HeldOut,
) -> str:
    """The id of a selection: what went in, who scored, the policy, what is held out."""
    made_by = [dict(scorer) for scorer in scorers]
    return make_id("selection", sorted(sample_ids), made_by, policy.model_dump(), held_out.digest)


def choose(
    samples: Sequence[Sample],
    scores: Sequence[Score],
    policy: GatePolicy,
    held_out: HeldOut,
    selection_id: str,
) -> Iterator[Choice]:
    """One choice per sample. A held-out item is never kept, whatever the policy says."""
    by_sample: dict[str, dict[str, Score]] = defaultdict(dict)
    for score in scores:
        by_sample[score.sample_id][score.scorer] = score
    seen: dict[tuple[str, str], str] = {}
    for sample in samples:
        reasons = list(_reasons(sample, by_sample[sample.sample_id], policy, held_out))
        if not reasons:
            text = (normalise(str(sample.messages)), normalise(sample.completion))
            first = seen.setdefault(text, sample.sample_id)
            if first != sample.sample_id:
                reasons.append(f"duplicate of {first}")
        yield Choice(
            selection_id=selection_id,
            sample_id=sample.sample_id,
            kept=not reasons,
            reason=reasons[0] if reasons else "kept",
            reasons=reasons,
        )


def _reasons(
    sample: Sample, scores: Mapping[str, Score], policy: GatePolicy, held_out: HeldOut
) -> Iterator[str]:
    match = held_out.matches(sample)
    if match:
        yield f"held_out: {match}"
    if sample.status != "ok" and not (sample.status == "truncated" and policy.keep_truncated):
        yield f"status: {sample.status}"
    words = len(sample.completion.split())
    if policy.max_words is not None and words > policy.max_words:
        yield f"more than {policy.max_words} words"
    for key, bound in policy.thresholds.items():
        scorer, _, end = key.rpartition("_")
        score = scores.get(scorer)
        if score is None:
            yield f"{scorer}: not scored"
        elif score.value is None or math.isnan(score.value):
            if not policy.keep_abstained:
                yield f"{scorer} abstained: {score.why or 'no number'}"
        elif end == "min" and score.value < bound:
            yield f"{scorer} below {bound:g}"
        elif end == "max" and score.value > bound:
            yield f"{scorer} above {bound:g}"
