"""Compare prompting, retrieval and training by accuracy, cost and time; find the break-even."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from distill.evaluation.comparison import Comparison
from distill.evaluation.statistics import Interval, bootstrap, mean
from distill.evaluation.verdict import points
from warehouse.records import Answer
from warehouse.wording import format_count


@dataclass(frozen=True)
class Economy:
    """What a contestant's answers take on one benchmark."""

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
    """From how many answers on the student is cheaper than another contestant."""

    against: str
    fixed_usd: float | None
    """What making the student cost: the replies that it is made and chosen by, and the training's
    machine time."""
    saved_usd_per_1000: float | None
    answers: int | None
    """None where the student never pays for itself, or a price is not known."""
    sentence: str


def economy(
    benchmark: str,
    comparison: Comparison,
    answers: Sequence[Answer],
    usd_per_hour: float | None,
    at_once: Mapping[str, int] = MappingProxyType({}),
) -> list[Economy]:
    """What each contestant of a comparison takes, from its answers to that benchmark.

    Answers from calls (`settings["call_id"]`) are priced by what they cost, be it nothing. A
    model on this machine is priced by `usd_per_hour`, the price of the machine, for the time that
    its answers took; so is a contestant that `at_once` names, whose server on this machine
    answers so many requests at the same time that each took that share of its latency. A price
    that is not known for a single answer is not known for any.
    An item that is answered twice counts once.
    """
    found = []
    for standing in comparison.standings:
        by_item: dict[str, Answer] = {}
        for answer in sorted(answers, key=lambda a: (a.item_id, a.answer_id)):
            if answer.contestant == standing.contestant:
                by_item.setdefault(answer.item_id, answer)
        given = list(by_item.values())
        usd, priced_by, interval = _price(given, usd_per_hour, at_once.get(standing.contestant))
        found.append(
            Economy(
                benchmark=benchmark,
                contestant=standing.contestant,
                n=len(given),
                score=standing.metrics.get(comparison.headline),
                usd_per_1000=usd,
                priced_by=priced_by,
                latency_s=_mean([answer.latency_s for answer in given]) if given else None,
                tokens_in=_mean([answer.prompt_tokens for answer in given]),
                tokens_out=_mean([answer.completion_tokens for answer in given]),
                usd_interval=interval,
            )
        )
    return found


def break_even(
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
    apart = _apart(student, other)
    if fixed is not None and saved is not None and saved > 0 and apart:
        answers = math.ceil(round(fixed / saved * 1000, 6))
    against = other.contestant
    if saved is None:
        sentence = (
            f"When the student pays against {against} is not known: "
            f"{_no_price(student, other, usd_per_hour)}."
        )
    elif not apart:
        sentence = (
            f"By cost the student cannot be told from {against}: 1,000 answers cost "
            f"{_usd_range(student)}, those of {against} {_usd_range(other)}."
        )
    elif saved <= 0:
        sentence = (
            f"By cost the student never pays against {against}: 1,000 answers cost "
            f"{_usd(student.usd_per_1000)}, those of {against} {_usd(other.usd_per_1000)}."
        )
    elif answers is None:
        why = (
            f"what the data cost is not known; {_TOKEN_PRICES} tell"
            if data_usd is None
            else "what the training cost is not known; evaluate.usd_per_hour tells"
        )
        sentence = (
            f"The student saves {_usd(saved)} per 1,000 answers against {against}, but from how "
            f"many answers on it pays is not known: {why}."
        )
    elif answers == 0:
        sentence = (
            f"The student pays at once against {against}: making it cost nothing, and it saves "
            f"{_usd(saved)} per 1,000 answers."
        )
    else:
        sentence = (
            f"The student pays against {against} from {format_count(answers, 'answer')} on: making it cost "
            f"{_usd(fixed)}, and it saves {_usd(saved)} per 1,000 answers."
        )
    return BreakEven(against, fixed, saved, answers, sentence + _scores(student, other))


_TOKEN_PRICES = "input_usd_per_million and output_usd_per_million of teacher, judge and endpoints"


def _apart(one: Economy, other: Economy) -> bool:
    """Whether two prices differ by more than the time of single answers varies."""
    if not (one.usd_interval or other.usd_interval):
        return True  # prices by token are what they are
    if one.usd_per_1000 is None or other.usd_per_1000 is None:
        return True
    low, high = sorted((_range(one), _range(other)))
    return low[1] < high[0]


def _range(one: Economy) -> tuple[float, float]:
    usd = one.usd_per_1000
    assert usd is not None
    return (one.usd_interval.low, one.usd_interval.high) if one.usd_interval else (usd, usd)


def _usd_range(one: Economy) -> str:
    text = _usd(one.usd_per_1000)
    if one.usd_interval is None:
        return text
    return f"{text} ({_usd(one.usd_interval.low)} to {_usd(one.usd_interval.high)})"


def _price(
    answers: Sequence[Answer], usd_per_hour: float | None, at_once: int | None
) -> tuple[float | None, str, Interval | None]:
    """(US dollars per 1,000 answers, by what, its interval); `at_once` is None of whoever is not
    behind a server on this machine."""
    if not answers:
        return None, "not known", None
    if at_once is None and any("call_id" in answer.settings for answer in answers):
        known = [answer.cost_usd for answer in answers if answer.cost_usd is not None]
        if len(known) < len(answers):
            return None, "not known", None
        return 1000 * _mean(known), "tokens", None
    if usd_per_hour is None:
        return None, "not known", None
    factor = 1000 * usd_per_hour / 3600 / (at_once or 1)
    took = bootstrap([[factor * answer.latency_s for answer in answers]], mean)
    return took.value, "machine time", took if len(answers) > 1 else None


def _times(hours: float, usd_per_hour: float | None) -> float | None:
    return None if usd_per_hour is None else hours * usd_per_hour


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0


def _no_price(student: Economy, other: Economy, usd_per_hour: float | None) -> str:
    missing = [one.contestant for one in (student, other) if one.usd_per_1000 is None]
    key = (
        "evaluate.usd_per_hour tells what a model on this machine costs"
        if usd_per_hour is None
        else f"{_TOKEN_PRICES} tell what a reply costs"
    )
    return f"no price of {' and '.join(missing)}; {key}"


def _scores(student: Economy, other: Economy) -> str:
    """Cheaper is not as good: both scores, where they are known."""
    if student.score is None or other.score is None:
        return ""
    ours, theirs = points(student.score.value), points(other.score.value)
    return f" Of 100 points the student scores {ours}, {other.contestant} {theirs}."


def _usd(value: float | None) -> str:
    assert value is not None
    if 0 < value < 0.00005:
        return "less than 0.0001 USD"
    return f"{value:,.2f} USD" if value >= 1 or value == 0 else f"{value:.4f} USD"
