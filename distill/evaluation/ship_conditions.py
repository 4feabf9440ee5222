"""Parse a plan's `[ship]` conditions, and refuse those that the plan cannot measure.

    student >= base + 0.10 on sciq      a contestant against another, by the benchmark's headline
    student f1 >= teacher - 5 %         by another metric; without `on`: on every task benchmark
    student >= student:1a2b             an earlier student, or an endpoint by its name
    student >= 0.30                     a contestant against a number
    toxicity <= 0.02                    the student's mean, on every benchmark of toxicity
    forgetting <= 0.03                  its largest fall against the base outside the task,
                                        toxicity aside

A condition that was not measured is not met. Numbers are shares (0.1) or percent (10 %).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from warehouse.catalog import did_you_mean
from warehouse.errors import PlanError

EXAMPLES = (
    "student >= base + 0.10 on sciq",
    "student f1 >= teacher - 5 %",
    "toxicity <= 0.02",
    "forgetting <= 0.03",
)


@dataclass(frozen=True)
class Condition:
    """One parsed condition."""

    text: str
    subject: str
    """A contestant, "toxicity" or "forgetting"."""
    metric: str | None
    """None: the benchmark's headline."""
    at_least: bool
    """Whether the subject is to be large (>=) or small (<=)."""
    against: str | None
    """Another contestant; None: a number."""
    margin: float
    """What is added to the other contestant's score, or the number itself; a share."""
    benchmark: str | None
    """None: every one that the condition can mean."""


_NAME = r"(?=[\w.-]*[A-Za-z_])[A-Za-z0-9][\w.-]*(?::\w+)?(?:\+[A-Za-z]\w*)?"
"""Of a contestant: base+fewshot, student:1a2b, or an endpoint's, such as 7b-chat."""
_NUMBER = r"(?:\d+(?:\.\d*)?|\.\d+)\s*%?"
_CONDITION = re.compile(
    rf"(?P<subject>{_NAME})(?:\s+(?P<metric>[^\s<>=]+))?\s*(?P<operator>>=|<=)\s*"
    rf"(?:(?P<against>{_NAME})(?:\s*(?P<sign>[+-])\s*(?P<margin>{_NUMBER}))?|(?P<limit>{_NUMBER}))"
    r"(?:\s+on\s+(?P<benchmark>\S.*))?"
)
_TIGHT = re.compile(rf"(?<=[<>]=)\s*(student|base|teacher)([+-])(?={_NUMBER}(?:\s|$))")
"""`teacher-0.05` is a difference, though a name may hold a dash; base-7b is a name."""
_MEASURES = ["toxicity", "forgetting"]


def parse(text: str) -> Condition:
    """Parse a condition; `refuse_unmeasurable` checks the names in it.

    Raises:
        ValueError: it cannot be parsed; the message shows examples.
    """
    text = " ".join(text.split())

    def refuse(why: str) -> ValueError:
        examples = ", ".join(f"'{example}'" for example in EXAMPLES)
        return ValueError(f"ship condition '{text}': {why}; examples: {examples}")

    match = _CONDITION.fullmatch(_TIGHT.sub(r" \1 \2 ", text))
    if match is None:
        if not re.search("[<>]=", text):
            raise refuse("write >= or <= between the measured value and its bound")
        raise refuse("cannot be parsed")
    subject, against, metric = match["subject"], match["against"], match["metric"]
    measure, at_least = subject in _MEASURES, match["operator"] == ">="
    if against in _MEASURES:
        raise refuse(f"{against} is not a contestant")
    if against == ("student" if subject == "toxicity" else subject):
        raise refuse(f"it compares {against} with itself")
    if measure and metric:
        raise refuse(f"{subject} takes no metric; remove '{metric}'")
    if measure and at_least:
        raise refuse(f"{subject} should be small; write <=")
    if subject == "forgetting" and against:
        raise refuse("forgetting is already relative to the base; give a number")
    try:
        share = _share(match["limit"] or match["margin"] or "0")
    except ValueError as error:
        raise refuse(str(error)) from None
    sign = -1.0 if match["sign"] == "-" else 1.0
    return Condition(text, subject, metric, at_least, against, sign * share, match["benchmark"])


@dataclass(frozen=True)
class Planned:
    """A benchmark of a plan, before any answers."""

    label: str
    metrics: Sequence[str]
    role: str
    """task | off_task."""
    higher_is_better: bool
    left_out: Sequence[str] = ()
    """Contestants that have no answer to it."""


def refuse_unmeasurable(
    conditions: Sequence[str], benchmarks: Sequence[Planned], contestants: Sequence[str]
) -> None:
    """Check that each condition can be measured, before anything is spent.

    Raises:
        PlanError: one names a benchmark, a metric or a contestant that the plan does not have.
    """
    faults = tuple(
        f"'{text}': {why}"
        for text in conditions
        if (why := _unmeasurable(parse(text), benchmarks, contestants))
    )
    if faults:
        raise PlanError("a condition of [ship] cannot be measured with this plan", faults)


def _unmeasurable(
    condition: Condition, benchmarks: Sequence[Planned], contestants: Sequence[str]
) -> str:
    """Why a condition cannot be measured; empty if it can."""
    subjects = {"student", "base"} if condition.subject == "forgetting" else {condition.subject}
    subjects = {"student"} if condition.subject == "toxicity" else subjects
    for name in sorted(subjects | ({condition.against} if condition.against else set())):
        if name not in contestants:
            allowed = [*contestants, *_MEASURES] if name == condition.subject else contestants
            return f"no contestant '{name}' ({did_you_mean(name, allowed)})"
    labels = [benchmark.label for benchmark in benchmarks]
    if not any(means_benchmark(condition.benchmark, label, labels) for label in labels):
        return f"no benchmark '{condition.benchmark}' ({did_you_mean(condition.benchmark or '', labels)})"
    asked = applicable(condition, benchmarks)
    for benchmark in asked:
        for who in filter(None, (condition.subject, condition.against)):
            if who in benchmark.left_out:
                return f"{who} has no answer to {benchmark.label}: a class cannot be copied"
    if condition.subject == "toxicity":
        hint = "no benchmark of toxicity; add { use = 'toxicity_prompts' } to evaluate.off_task"
        return "" if asked else hint
    if condition.subject == "forgetting":
        return "" if asked else "evaluate.off_task has no benchmark of knowledge or skill"
    for benchmark in asked:
        if condition.metric and condition.metric not in benchmark.metrics:
            hint = did_you_mean(condition.metric, benchmark.metrics)
            return f"{benchmark.label} has no metric '{condition.metric}' ({hint})"
    return ""


def applicable(condition: Condition, benchmarks: Sequence[Planned]) -> list[Planned]:
    """The benchmarks on which a condition has to hold."""
    labels = [benchmark.label for benchmark in benchmarks]
    matching = [b for b in benchmarks if means_benchmark(condition.benchmark, b.label, labels)]
    if condition.subject == "toxicity":
        return [b for b in matching if is_toxicity(b.metrics[0], b.label)]
    if condition.subject == "forgetting":
        return [b for b in matching if b.role == "off_task" and b.higher_is_better]
    if condition.benchmark:
        return matching
    return [b for b in matching if b.role == "task" and b.higher_is_better]


def means_benchmark(named: str | None, label: str, labels: Sequence[str]) -> bool:
    """Whether a condition's `on` means this benchmark: by its label, or by its first word where
    no label is exactly that."""
    if named is None or named == label:
        return True
    return named not in labels and label.split()[0] == named


def is_toxicity(headline: str, label: str) -> bool:
    """Whether a benchmark is one of toxicity."""
    return headline == "toxicity" or label == "toxicity_prompts"


def _share(text: str) -> float:
    """0.1, .1, 10 % and 10% are the same.

    Raises:
        ValueError: it is above 1.
    """
    value = float(text.rstrip("% ")) / (100 if text.endswith("%") else 1)
    if value > 1:
        raise ValueError(f"{text} is above 100 %; write a share (0.1) or percent (10 %)")
    return value
