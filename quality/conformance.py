"""Check that a scorer or a benchmark keeps the contract of its kind.

Each function raises AssertionError with the fault, so it works with any test runner.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from quality.scoring.scorer import Scorer
from quality.tasks.benchmark import Benchmark, Item
from quality.tasks.question_rows import right_answer
from warehouse.records import Prompt, Sample, Score

STRANGE_TEXTS = {
    "empty": "",
    "white space": " \n\t ",
    "control characters": "\x00\x07\x1b[31m",
    "emoji": "🙂 " * 50,
    "right to left": "مرحبا بالعالم " * 20,
    "bidi marks": "\u202egnorw\u202c says the text that you read here",
    "lone surrogate": "half a \ud83d pair is no letter at all",
    "one megabyte": "the calm river flows past the old mill " * 27_000,
    "one word of a megabyte": "a" * 1_000_000,
}
"""Completions that a scorer must cope with."""

_STRANGE_ANSWERS = ("", "\n", "\ud800", "a\x00b", "?" * 5000)
_NONSENSE = "zzyzx qwrtp"


def sample_of(
    completion: str,
    question: str = "What colour is the sky?",
    reference: Sequence[str] = (),
    passage: str | None = None,
) -> Sample:
    """A sample with this completion, as a recipe makes it of a teacher's reply."""
    prompt = Prompt.of(
        recipe="imitation",
        messages=[{"role": "user", "content": question}],
        question=question,
        reference=reference,
        passage=passage,
    )
    return Sample.of(
        prompt, call_ids=["call"], recipe_version="1", completion=completion, status="ok"
    )


def check_scorer(scorer: Scorer, samples: Sequence[Sample] = ()) -> list[Score]:
    """Score strange texts and `samples`, and check the contract of a scorer.

    One score for each sample in order, with a finite value or the reason of an abstention; only
    labels that the class names; details that JSON can hold; the same values again, and for
    samples that come one by one.

    Returns:
        The scores: first those of `STRANGE_TEXTS`, in order, then those of `samples`.
    """
    _require(isinstance(scorer.version, str), "version is not a text")
    _require(
        scorer.higher_is_better in (True, False, None),
        "higher_is_better is not true, false or None",
    )
    _require(scorer.asks in ("", "teacher", "judge"), "asks is not 'teacher', 'judge' or empty")
    blank = sample_of("x")
    everything = [*(replace(blank, completion=text) for text in STRANGE_TEXTS.values()), *samples]
    names = [*STRANGE_TEXTS, *(f"sample {number}" for number in range(len(samples)))]
    verdicts = list(scorer.score(everything))
    _require(
        len(verdicts) == len(everything), f"{len(verdicts)} verdicts for {len(everything)} samples"
    )
    scores = []
    for name, sample, score in zip(names, everything, verdicts, strict=True):
        _require(isinstance(score, Score), f"{name}: {getattr(score, 'error', score)}")
        assert isinstance(score, Score)
        scores.append(score)
        _require(score.score_id == scorer.score_id(sample), f"{name}: another id than score_id()")
        value = score.value
        _require(value is None or math.isfinite(value), f"{name}: the value is {value}")
        _require(value is not None or bool(score.why), f"{name}: abstains and gives no reason")
        labels = set((score.details or {}).get("labels", {}))
        _require(labels <= set(scorer.labels), f"{name}: labels are not those of the class")
        _json(score.details, name)
    if not scorer.asks:
        few = [n for n, name in enumerate(names) if "megabyte" not in name]
        again = [score for n in few for score in scorer.score([everything[n]])]
        values = [getattr(score, "value", None) for score in again]
        _require(
            values == [scores[n].value for n in few], "another value when scored again, one by one"
        )
    return scores


def check_benchmark(benchmark: Benchmark, folder: Path, few: int = 20) -> list[Item]:
    """Read items, grade answers and check the contract of a benchmark.

    Items in the same order each time, each once; the first ones under a limit; full marks for
    right answers and less for nonsense; no error for a strange answer, and a reason wherever a
    grade is missing.

    Args:
        benchmark: The benchmark.
        folder: Where its relative paths start.
        few: Approximate number of items to grade.

    Returns:
        The items.
    """
    items = list(benchmark.items(folder))
    ids = [item.item_id for item in items]
    _require(bool(items), "there are no items")
    _require(ids == [item.item_id for item in benchmark.items(folder)], "another order each time")
    _require(len(set(ids)) == len(ids), "an item comes twice")
    _require(all(item.messages for item in items), "an item asks nothing")
    _require(isinstance(benchmark.version, str), "version is not a text")
    _require(bool(benchmark.metrics), "there is no metric")
    _require(benchmark.content in (None, *benchmark.metrics), "content is not one of the metrics")
    if hasattr(benchmark, "limit"):
        shorter: Any = replace(benchmark, limit=1)  # type: ignore[type-var]
        _require(list(shorter.items(folder)) == items[:1], "limit = 1 is not the first item")
        _require(shorter.label == benchmark.label, "a limit makes another benchmark of it")
    chosen = items[:: max(1, len(items) // few)]
    if benchmark.higher_is_better:
        _check_marks(benchmark, [item for item in chosen if item.row.reference])
    for answer in _STRANGE_ANSWERS:
        for grade in benchmark.grade_all(chosen[:3], [answer] * len(chosen[:3])):
            _require(tuple(grade.values) == benchmark.metrics, "a grade has not all the metrics")
            whole = None not in grade.values.values()
            _require(whole == (grade.abstained is None), "an abstention and its reason differ")
            _json(grade.details, repr(answer))
    return items


def _check_marks(benchmark: Benchmark, items: Sequence[Item]) -> None:
    headline = benchmark.metrics[0]

    def marks(answers: Sequence[str]) -> list[float | None]:
        return [grade.values[headline] for grade in benchmark.grade_all(items, answers)]

    for kind, answers in (
        ("reference", [item.row.reference[0] for item in items]),
        ("letter of the right option", [right_answer(item) for item in items]),
    ):
        _require(set(marks(answers)) <= {1.0}, f"the {kind} does not have full marks")
    wrong = marks([_NONSENSE] * len(items))
    _require(all(mark is None or mark < 1.0 for mark in wrong), "nonsense has full marks")


def _json(details: Any, name: str) -> None:
    try:
        json.dumps(details)
    except (TypeError, ValueError) as error:
        raise AssertionError(f"{name}: details cannot be written as JSON ({error})") from None


def _require(holds: bool, fault: str) -> None:
    if not holds:
        raise AssertionError(fault)
