"""Record human decisions, resolve which one holds, and order the samples to review.

A decision is a score of the scorer `human`: 1.0 accepted, 0.0 rejected or replaced by an
edit. Decisions are only ever added; the latest one that was not withdrawn counts.
"""

from __future__ import annotations

import unicodedata
from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from typing import Any

from quality.review.agreement import Bounds, Reading, agreements, readings
from warehouse.records import Choice, Sample, Score, make_id, now

HUMAN = "human"
VERSION = "1"
EDITED = "+edited"
TRAINABLE = ("ok", "truncated")
"""What a sample's status has to be; accepting another one makes it an edit with the same text."""


def decisions(scores: Iterable[Score]) -> dict[str, Score]:
    """The decision in force for each decided sample, by sample id; other scores are passed over."""
    human = [score for score in scores if score.scorer == HUMAN]
    withdrawn = {_detail(score, "withdraws") for score in human}
    valid = [s for s in human if s.value is not None and s.score_id not in withdrawn]
    valid.sort(key=lambda score: _detail(score, "decided_at") or "")
    return {score.sample_id: score for score in valid}


def accept(sample: Sample, comment: str = "", at: datetime | None = None) -> Score:
    """A human takes the sample as it is."""
    return _decision(sample.sample_id, 1.0, comment or None, comment, at)


def reject(sample: Sample, comment: str = "", at: datetime | None = None) -> Score:
    """A human does not want the sample."""
    return _decision(sample.sample_id, 0.0, comment or None, comment, at)


def edit(
    sample: Sample, text: str, comment: str = "", at: datetime | None = None
) -> tuple[Sample, list[Score]]:
    """A human puts another completion in the sample's place.

    Returns:
        The new sample; the old one's decision, which leads to it, and the new one's. Where
        the text is the old one: that sample, accepted. A refusal or what did not parse
        becomes a new sample all the same, since a human says that it is an answer.

    Raises:
        ValueError: the text is empty, or cannot be kept.
    """
    if not text.strip():
        raise ValueError("an edit needs a completion; reject the sample instead")
    if text == sample.completion and sample.status in TRAINABLE:
        return sample, [accept(sample, comment, at)]
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("the text holds half of a surrogate pair; retype that character") from None
    version = sample.recipe_version.removesuffix(EDITED) + EDITED
    new = replace(
        sample,
        sample_id=make_id("sample", sample.prompt_id, sample.call_ids, version, text),
        recipe_version=version,
        completion=text,
        status="ok",
        status_reason=None,
    )
    at = at or now()
    why = f"edited: {comment}" if comment else "edited"
    old = _decision(sample.sample_id, 0.0, why, comment, at, edited_to=new.sample_id)
    taken = _decision(new.sample_id, 1.0, why, comment, at, edit_of=sample.sample_id)
    return new, [old, taken]


def withdraw(decision: Score, at: datetime | None = None) -> Score:
    """Take a decision back: what was decided before it, if anything, is in force again."""
    taken = {"withdraws": decision.score_id}
    return _decision(decision.sample_id, None, "withdrawn", "", at, **taken)


def _decision(
    sample_id: str,
    value: float | None,
    why: str | None,
    comment: str,
    at: datetime | None,
    **details: str,
) -> Score:
    moment = (at or now()).astimezone(UTC).isoformat(timespec="microseconds")
    details = {"decided_at": moment, **details, **({"comment": comment} if comment else {})}
    return Score(  # the moment is part of the id: a changed mind is another row
        score_id=make_id("score", sample_id, HUMAN, VERSION, HUMAN, details),
        sample_id=sample_id,
        scorer=HUMAN,
        version=VERSION,
        model=HUMAN,
        options={},
        value=value,
        why=why,
        details=details,
    )


def _detail(score: Score, name: str) -> Any:
    return (score.details or {}).get(name)


def with_edits(
    sample_ids: Iterable[str], scores: Iterable[Score], edits: Collection[str]
) -> list[str]:
    """The samples by id, each replaced by its latest edit where there is one; each once.

    Args:
        sample_ids: Samples as the recipes parsed them.
        scores: Scores, with the humans' among them.
        edits: The ids of the edits that there are; one that is missing changes nothing.
    """
    decided = decisions(scores)
    placed: dict[str, None] = {}
    for sample_id in sample_ids:
        passed = {sample_id}
        while (
            (decision := decided.get(sample_id))
            and (after := _detail(decision, "edited_to")) in edits
            and after not in passed
        ):
            sample_id = after
            passed.add(sample_id)
        placed.setdefault(sample_id)
    return list(placed)


def queue(
    samples: Sequence[Sample],
    scores: Sequence[Score],
    bounds: Bounds,
    choices: Iterable[Choice] = (),
) -> list[Sample]:
    """The samples in the order in which a human's look is worth most.

    First those on which a scorer with a bound abstained, then by uncertainty (Lewis and
    Gale 1994, section 3): how few samples lie between a score and where its bound divides
    them, as a share of the samples. Ties share their middle place, so a value that most
    samples have is no doubt. What is no answer by its status, and held-out items, which no
    decision lets through, come after them, and what is decided already comes last.
    """
    decided = decisions(scores)
    held_out = {c.sample_id for c in choices if any(r.startswith("held_out") for r in c.reasons)}
    by_sample = readings(samples, scores, bounds)
    places = _places(by_sample)

    def rank(sample: Sample) -> tuple[bool, bool, bool, float, str]:
        here = sample.sample_id
        bounded = [reading for reading in by_sample[here] if reading.bound is not None]
        distance = min((_distance(reading, places) for reading in bounded), default=1.0)
        return here in decided, here in held_out, sample.status not in TRAINABLE, distance, here

    return sorted(samples, key=rank)


Places = dict[tuple[str, float | None], dict[float, float]]
"""(key, bound) -> value -> its distance from the bound in places, as a share of all."""


def _places(by_sample: Mapping[str, Sequence[Reading]]) -> Places:
    groups: dict[tuple[str, float | None], list[Reading]] = defaultdict(list)
    for own in by_sample.values():
        for reading in own:
            if reading.passed is not None:
                groups[reading.key, reading.bound].append(reading)
    return {key: _distances(group) for key, group in groups.items()}


def _distances(group: Sequence[Reading]) -> dict[float, float]:
    sign = 1.0 if group[0].is_least else -1.0
    values = sorted(sign * reading.value for reading in group if reading.value is not None)
    if len(set(values)) < 3:  # a yes or no is as sure on either side
        return {sign * value: 1.0 for value in values}
    cut = sum(not reading.passed for reading in group)  # so many places lie below the bound
    middle = {
        value: (bisect_left(values, value) + bisect_right(values, value)) / 2 for value in values
    }
    return {sign * value: abs(place - cut) / len(values) for value, place in middle.items()}


def _distance(reading: Reading, places: Places) -> float:
    return -1.0 if reading.value is None else places[reading.key, reading.bound][reading.value]


def agreement(
    samples: Sequence[Sample], scores: Sequence[Score], bounds: Bounds
) -> list[dict[str, Any]]:
    """How far each bound agrees with the decisions among the scores: rows of `Agreement`."""
    by_sample = readings(samples, scores, bounds)
    return [asdict(row) for row in agreements(by_sample, decisions(scores))]


_JOINERS = "\u200c\u200d"  # at home in Persian, Indic scripts and emoji


def hidden(text: str) -> list[str]:
    """The characters of a text that no reader sees, such as bidirectional overrides: `U+202E x 2`."""
    counts = Counter(
        char
        for char in text
        if unicodedata.category(char) in ("Cc", "Cf", "Cs", "Co") and char not in "\n\t" + _JOINERS
    )
    return [
        f"U+{ord(char):04X} {unicodedata.name(char, 'control')} × {number}"
        for char, number in sorted(counts.items())
    ]
