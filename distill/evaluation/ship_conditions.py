"""Parse a plan's `[ship]` conditions, and refuse those that the plan cannot measure.

    student >= base + 0.10 on sciq      a contestant against another, by the benchmark's headline
    student f1 >= teacher - 5 %         by another metric; without `on`: on every task benchmark
    student >= student:1a2b             an earlier student, or an endpoint by its name
    student >= 0.30                     a contestant against a number
    toxicity <= 0.02                    the student's mean, on every benchmark of toxicity
    forgetting <= 0.03                  its largest fall against the base outside the task,
                                        toxicity aside

A condition that was not measured is not met. One that every student meets, or that is met the sooner the
worse the student is, is refused. Numbers are shares (0.1) or percent (10 %).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from quality.tasks.benchmark import TEXT_METRICS
from quality.tasks.graders import CHOICE_METRICS, CLASS_METRICS, NUMERIC_METRICS
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

    @property
    def is_measure(self) -> bool:
        """Whether its subject is a measure of the student: toxicity or forgetting."""
        return self.subject in _MEASURES

    @property
    def is_always_met(self) -> bool:
        """Whether every score meets it: a score is 0 to 1, a difference -1 to 1."""
        if self.at_least:
            return self.margin <= (-1 if self.against else 0)
        return self.margin >= 1

    def is_of_student(self, side: str | None) -> bool:
        """Whether a side of it is the plan's own student, in whatever context."""
        return side in _MEASURES or (side or "").partition("+")[0] == "student"

    @property
    def wants_high(self) -> bool | None:
        """Whether the student passes by a high score; None where it is not, or is both sides."""
        ours, theirs = self.is_of_student(self.subject), self.is_of_student(self.against)
        return None if ours == theirs else self.at_least == ours


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
_LOW_IS_GOOD = {"toxicity", "toxic"}
_HIGH_IS_GOOD = {*TEXT_METRICS, *CHOICE_METRICS, *CLASS_METRICS, *NUMERIC_METRICS}
"""Metrics of graders; a task of lm-evaluation-harness may have others, some of them errors."""


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
    if (named := _named_twice(match["benchmark"] or "")) is not None:
        raise refuse(f"it names the benchmark '{named}' twice; write 'on {named}'")
    if measure and at_least:
        raise refuse(f"{subject} should be small; write <=")
    if subject == "forgetting" and against:
        raise refuse("forgetting is already relative to the base; give a number")
    try:
        share = _share(match["limit"] or match["margin"] or "0")
    except ValueError as error:
        raise refuse(str(error)) from None
    sign = -1.0 if match["sign"] == "-" else 1.0
    condition = Condition(
        text, subject, metric, at_least, against, sign * share, match["benchmark"]
    )
    if condition.is_always_met:
        other = "base" if subject == "student" else "student"
        instead = f"{subject} <= 0.02" if measure else f"{subject} >= {against or other}"
        raise refuse(f"every score meets it; write a bound that can be missed, such as '{instead}'")
    return condition


def _named_twice(benchmarks: str) -> str | None:
    """A benchmark that stands twice in a list such as "sciq, sciq"; None where none does."""
    named = _listed(benchmarks)
    return next((name for name in named if named.count(name) > 1), None)


def _listed(benchmarks: str) -> list[str]:
    """The parts of "sciq, nq" or "sciq and nq", which `on` does not take, but people write."""
    return re.split(r"\s*,\s*(?:and\s+)?|\s+and\s+(?:on\s+)?", benchmarks)


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

    def wants_high(self, metric: str | None) -> bool | None:
        """Whether a high score by a metric is good; None where only the task's author knows."""
        if metric is None or metric == self.metrics[0]:
            return self.higher_is_better
        return True if metric in _HIGH_IS_GOOD else (False if metric in _LOW_IS_GOOD else None)


def refuse_unmeasurable(
    conditions: Sequence[str], benchmarks: Sequence[Planned], contestants: Sequence[str]
) -> None:
    """Check that each condition can be measured and asks for a good student, before anything is spent.

    Raises:
        PlanError: one names a benchmark, a metric or a contestant that the plan does not have, or a
            worse student would meet it more easily.
    """
    faults = tuple(
        f"'{text}': {why}"
        for text in conditions
        if (why := _fault(parse(text), benchmarks, contestants))
    )
    if faults:
        raise PlanError("a condition of [ship] does not fit this plan", faults)


def _fault(condition: Condition, benchmarks: Sequence[Planned], contestants: Sequence[str]) -> str:
    """Why a condition cannot be measured, or asks for a bad student; empty if it does neither."""
    subjects = {"student", "base"} if condition.subject == "forgetting" else {condition.subject}
    subjects = {"student"} if condition.subject == "toxicity" else subjects
    for name in sorted(subjects | ({condition.against} if condition.against else set())):
        if name not in contestants:
            allowed = [*contestants, *_MEASURES] if name == condition.subject else contestants
            return f"no contestant '{name}' ({did_you_mean(name, allowed)})"
    labels = [benchmark.label for benchmark in benchmarks]
    if not any(means_benchmark(condition.benchmark, label, labels) for label in labels):
        if len(_listed(condition.benchmark or "")) > 1:
            return "on takes one benchmark; write a condition for each, or leave out on for all"
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
        wanted, good = condition.wants_high, benchmark.wants_high(condition.metric)
        if None not in (wanted, good) and wanted != good:
            return _turned(condition, benchmark)
    return ""


def _turned(condition: Condition, benchmark: Planned) -> str:
    """What to write in place of a condition that a worse student meets more easily."""
    operator = "<=" if condition.at_least else ">="
    left, bound = (side.strip() for side in re.split("[<>]=", condition.text, maxsplit=1))
    good = "low" if condition.wants_high else "high"
    return (
        f"a good score on {benchmark.label} is {good}, so the worse the student, the sooner it is met; "
        f"write '{left} {operator} {bound}'"
    )


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
