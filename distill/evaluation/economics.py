"""Compare prompting, retrieval and training by accuracy, cost and time; find the break-even."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from distill.evaluation.comparison import Comparison, answers_by_contestant
from distill.evaluation.statistics import Interval, bootstrap, mean
from distill.evaluation.verdict import points
from warehouse.records import Answer
from warehouse.wording import format_count


@dataclass(frozen=True)
class Economy:
    """Cost and time of a contestant's answers on one benchmark."""

    benchmark: str
    contestant: str
    n: int
    score: Interval | None
    usd_per_1000: float | None
    """US dollars per 1,000 answers; None where no price is known."""
    priced_by: str
    """"tokens", "machine time" or "not known"."""
    latency_s: float | None
    tokens_in: float
    """Mean per answer."""
    tokens_out: float
    usd_interval: Interval | None = None
    """Its 95 % bootstrap interval over the answers, where the price is one of machine time."""


@dataclass(frozen=True)
class BreakEven:
    """After how many answers the student is cheaper than another contestant."""

    against: str
    fixed_usd: float | None
    """What making the student cost: the replies that it is made and chosen by, and the training's
    machine time."""
    saved_usd_per_1000: float | None
    answers: int | None
    """None where the student never pays for itself, or a price is not known."""
    sentence: str


def price_answers(
    benchmark: str,
    comparison: Comparison,
    answers: Sequence[Answer],
    usd_per_hour: float | None,
    at_once: Mapping[str, int] = MappingProxyType({}),
) -> list[Economy]:
    """Compute cost and time of each contestant from its answers to a benchmark.

    Answers from calls (`settings["call_id"]`) are priced by what they cost, which may be 0. A
    model on this machine is priced by `usd_per_hour`, the price of the machine, for the time that
    its answers took; so is a contestant that `at_once` names, whose server on this machine
    answers so many requests at the same time that each took that share of its latency. A price
    that is not known for a single answer is not known for any.
    An item that is answered twice counts once.
    """
    answers_by, lines = answers_by_contestant(answers), []
    for standing in comparison.standings:
        name = standing.contestant
        own_answers = list(answers_by.get(name, {}).values())
        usd, priced_by, interval = _price(own_answers, usd_per_hour, at_once.get(name))
        lines.append(
            Economy(
                benchmark=benchmark,
                contestant=name,
                n=len(own_answers),
                score=standing.metrics.get(comparison.headline),
                usd_per_1000=usd,
                priced_by=priced_by,
                latency_s=_mean([answer.latency_s for answer in own_answers])
                if own_answers
                else None,
                tokens_in=_mean([answer.prompt_tokens for answer in own_answers]),
                tokens_out=_mean([answer.completion_tokens for answer in own_answers]),
                usd_interval=interval,
            )
        )
    return lines


def find_break_even(
    student: Economy,
    other: Economy,
    data_usd: float | None,
    training_hours: float,
    usd_per_hour: float | None,
) -> BreakEven:
    """When the student's lower price per answer has paid for making it.

    Making it cost `data_usd` (the replies that it is made and chosen by) and the machine for
    `training_hours`.
    """
    machine = 0.0 if training_hours == 0 else _times(training_hours, usd_per_hour)
    fixed = None if data_usd is None or machine is None else data_usd + machine
    saved = None
    if student.usd_per_1000 is not None and other.usd_per_1000 is not None:
        saved = other.usd_per_1000 - student.usd_per_1000
    answers = None
    prices_differ = _prices_differ(student, other)
    if fixed is not None and saved is not None and saved > 0 and prices_differ:
        answers = math.ceil(round(fixed / saved * 1000, 6))
    against = other.contestant
    if saved is None:
        sentence = (
            f"When the student pays off against {against} is unknown: "
            f"{_no_price(student, other, usd_per_hour)}."
        )
    elif not prices_differ:
        sentence = (
            f"The costs of the student and {against} are not clearly different: 1,000 answers cost "
            f"{_usd_range(student)} and {_usd_range(other)} respectively."
        )
    elif saved <= 0:
        sentence = (
            f"The student never pays off against {against}: 1,000 answers cost "
            f"{_usd(student.usd_per_1000)}, those of {against} {_usd(other.usd_per_1000)}."
        )
    elif answers is None:
        why = (
            f"the cost of the data is unknown; set {_TOKEN_PRICES}"
            if data_usd is None
            else "the cost of training is unknown; set evaluate.usd_per_hour"
        )
        sentence = (
            f"The student saves {_usd(saved)} per 1,000 answers against {against}, but after how "
            f"many answers it pays off is unknown: {why}."
        )
    elif answers == 0:
        sentence = (
            f"The student pays off at once against {against}: making it cost nothing, and it saves "
            f"{_usd(saved)} per 1,000 answers."
        )
    else:
        sentence = (
            f"The student pays off against {against} after {format_count(answers, 'answer')}: "
            f"making it cost "
            f"{_usd(fixed)}, and it saves {_usd(saved)} per 1,000 answers."
        )
    return BreakEven(against, fixed, saved, answers, sentence + _scores(student, other))


_TOKEN_PRICES = "input_usd_per_million and output_usd_per_million of teacher, judge and endpoints"


def _prices_differ(left: Economy, right: Economy) -> bool:
    """Whether two prices differ by more than the time of single answers varies."""
    if not (left.usd_interval or right.usd_interval):
        return True  # token prices are exact
    if left.usd_per_1000 is None or right.usd_per_1000 is None:
        return True
    low, high = sorted((_range(left), _range(right)))
    return low[1] < high[0]


def _range(line: Economy) -> tuple[float, float]:
    usd = line.usd_per_1000
    assert usd is not None
    return (line.usd_interval.low, line.usd_interval.high) if line.usd_interval else (usd, usd)


def _usd_range(line: Economy) -> str:
    text = _usd(line.usd_per_1000)
    if line.usd_interval is None:
        return text
    return f"{text} ({_usd(line.usd_interval.low)} to {_usd(line.usd_interval.high)})"


def _price(
    answers: Sequence[Answer], usd_per_hour: float | None, at_once: int | None
) -> tuple[float | None, str, Interval | None]:
    """(US dollars per 1,000 answers, by what, its interval); `at_once` is None of whoever is not
    behind a server on this machine."""
    if not answers:
        return None, "not known", None
    if at_once is None and any("call_id" in answer.settings for answer in answers):
        costs = [answer.cost_usd for answer in answers if answer.cost_usd is not None]
        if len(costs) < len(answers):
            return None, "not known", None
        return 1000 * _mean(costs), "tokens", None
    if usd_per_hour is None:
        return None, "not known", None
    factor = 1000 * usd_per_hour / 3600 / (at_once or 1)
    usd = bootstrap([[factor * answer.latency_s for answer in answers]], mean)
    return usd.value, "machine time", usd if len(answers) > 1 else None


def _times(hours: float, usd_per_hour: float | None) -> float | None:
    return None if usd_per_hour is None else hours * usd_per_hour


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0


def _no_price(student: Economy, other: Economy, usd_per_hour: float | None) -> str:
    missing = [line.contestant for line in (student, other) if line.usd_per_1000 is None]
    key = (
        "set evaluate.usd_per_hour, the price of this machine"
        if usd_per_hour is None
        else f"set {_TOKEN_PRICES}"
    )
    return f"no price of {' and '.join(missing)}; {key}"


def _scores(student: Economy, other: Economy) -> str:
    """Both scores, since a cheaper contestant may be worse."""
    if student.score is None or other.score is None:
        return ""
    ours, theirs = points(student.score.value), points(other.score.value)
    return f" Of 100 points the student scores {ours}, {other.contestant} {theirs}."


def _usd(value: float | None) -> str:
    assert value is not None
    if 0 < value < 0.00005:
        return "less than 0.0001 USD"
    return f"{value:,.2f} USD" if value >= 1 or value == 0 else f"{value:.4f} USD"
