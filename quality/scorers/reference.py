"""Score whether the completion is the reference answer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from quality.scoring.scorer import Scorer, Verdict
from quality.text.claims import whole_characters
from warehouse.records import Sample
from warehouse.text.normalize import (
    contains,
    differ_in_number,
    exact_match,
    normalise_answer,
    same_value,
    token_f1,
)

_LONGEST = 1000  # characters of an answer that can still be one number or date


@dataclass
class Reference(Scorer):
    """Agreement with the reference answer, the best over its aliases: exact match, else token F1.

    Exact match and F1 are those of SQuAD (Rajpurkar et al., 2016, section 4.3). Beyond them a
    number or date in another form agrees ("one thousand" with "1,000"), and 1.5 does not agree
    with 15, which SQuAD's normalisation takes for the same.
    """

    version: ClassVar[str] = "2"
    judges_answers: ClassVar[bool] = True
    scale: ClassVar[tuple[float, float] | None] = (0.0, 1.0)
    needs: ClassVar[str] = "reference"
    higher_is_better: ClassVar[bool | None] = True
    labels: ClassVar[tuple[str, ...]] = ("exact", "f1", "contains", "number")

    metric: Literal["match", "exact", "f1", "contains"] = "match"
    """What the value is: "match" is 1.0 for an exact match or the same number, else the F1."""

    def score_batch(self, samples: Sequence[Sample]) -> Iterator[Verdict]:
        """Agreement in 0..1; abstains where there is no reference or no completion."""
        for sample in samples:
            wanted = [text for text in sample.reference if text.strip()]
            if not wanted:
                yield Verdict(None, "no reference")
            elif not sample.completion.strip():
                yield Verdict(None, "no completion")
            else:
                yield self._best(sample.completion, wanted)

    def _best(self, completion: str, references: list[str]) -> Verdict:
        rows = [_labels(completion, reference) for reference in references]
        values = [self._value(row) for row in rows]
        best = max(range(len(rows)), key=values.__getitem__)
        labels = {name: max(row[name] for row in rows) for name in self.labels}
        nearest = whole_characters(references[best][:300])
        why = None if values[best] == 1 else f'the nearest reference is "{nearest[:80]}"'
        return Verdict(values[best], why, {"labels": labels, "reference": nearest})

    def _value(self, row: dict[str, float]) -> float:
        if self.metric != "match":
            return row[self.metric]
        if row["differs"] and row["f1"] == 1:
            return 0.0
        return max(row["exact"], row["number"], row["f1"])


def _labels(completion: str, reference: str) -> dict[str, float]:
    if not normalise_answer(reference):  # an answer of signs only, or an article
        same = float(completion.strip() == reference.strip())
        return {"exact": same, "f1": same, "contains": same, "number": 0.0, "differs": 0.0}
    exact, f1 = exact_match(completion, reference), token_f1(completion, reference)
    near = max(len(completion), len(reference)) <= _LONGEST
    return {
        "exact": exact,
        "f1": f1,
        "contains": contains(completion, reference),
        "number": float(near and same_value(completion, reference)),
        "differs": float(f1 == 1 and near and differ_in_number(completion, reference)),
    }
