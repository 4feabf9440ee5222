"""Compare prompting, retrieval and training by accuracy, cost and time; find the break-even.

A model on this machine answers in batches, and only the time of a whole batch is measured: its
answers have equal shares of it. So a price of machine time is one of batches, not of answers, and
of fewer than five batches no interval is given and nothing is claimed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from distill.evaluation.comparison import Comparison, answers_by_contestant, speaker_of
from distill.evaluation.statistics import LEVEL, Interval, group_values
from distill.evaluation.verdict import points
from warehouse.records import Answer
from warehouse.wording import format_count

MIN_BATCHES = 5
"""Below so many batches of either side no prices are compared."""


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
    """Its 95 % interval over the batches, where the price is one of machine time and there are five
    batches or more."""
    batches: int | None = None
    """Batches whose time was measured; None where the price is not one of machine time."""


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
    advice: str = ""
    """What would tell more, in a sentence; empty where nothing is missing."""


@dataclass(frozen=True)
class CostTotal:
    """What a student cost so far, and what its answers cost."""

    total_usd: float | None
    """The teacher's replies, their scores, training and evaluation; None where a price is not
    known."""
    known_usd: float
    """The part of it whose price is known."""
    hours: float
    """Hours of this machine: training and evaluation, and the teacher where it runs here."""
    usd_per_1000: float | None
    """US dollars per 1,000 answers of the student; None where the price is not known."""
    missing: str
    """Which price is not known and how to set it; empty where all are known."""
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
        price = _price(own_answers, usd_per_hour, at_once.get(name))
        lines.append(
            Economy(
                benchmark=benchmark,
                contestant=name,
                n=len(own_answers),
                score=standing.metrics.get(comparison.headline),
                usd_per_1000=price.usd,
                priced_by=price.by,
                latency_s=_mean([answer.latency_s for answer in own_answers])
                if own_answers
                else None,
                tokens_in=_mean([answer.prompt_tokens for answer in own_answers]),
                tokens_out=_mean([answer.completion_tokens for answer in own_answers]),
                usd_interval=price.interval,
                batches=price.batches,
            )
        )
    return lines


def student_line(economics: Sequence[Economy]) -> Economy | None:
    """The student on the first benchmark; None where it is no contestant."""
    lines = (line for line in economics if line.benchmark == economics[0].benchmark)
    return next((line for line in lines if line.contestant == "student"), None)


def find_break_evens(
    economics: Sequence[Economy],
    data_usd: float | None,
    training_hours: float,
    usd_per_hour: float | None,
) -> list[BreakEven]:
    """The student against each other model, on the first benchmark; see `find_break_even`."""
    student = student_line(economics)
    if student is None:
        return []
    return [
        find_break_even(student, other, data_usd, training_hours, usd_per_hour)
        for other in economics
        if other.benchmark == student.benchmark and speaker_of(other.contestant) != "student"
    ]


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
    few = _too_few_batches(student) or _too_few_batches(other)
    if fixed is not None and saved is not None and saved > 0 and prices_differ and not few:
        answers = math.ceil(round(fixed / saved * 1000, 6))
    against, advice = other.contestant, ""
    if saved is None:
        missing = [line.contestant for line in (student, other) if line.usd_per_1000 is None]
        sentence = (
            f"When the student pays off against {against} is unknown: no price of "
            f"{' and '.join(missing)}."
        )
        advice = f"Set {_MACHINE_PRICE if usd_per_hour is None else _TOKEN_PRICES}."
    elif few:
        sentence = (
            f"There are too few batches to compare prices: 1,000 answers cost "
            f"{_usd(student.usd_per_1000)} of the student, {_batches(student)}, and "
            f"{_usd(other.usd_per_1000)} of {against}, {_batches(other)}; {MIN_BATCHES} are needed."
        )
        advice = "More held-out items, or a smaller evaluate.batch_size, give more batches."
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
        what, price = ("data", _TOKEN_PRICES) if data_usd is None else ("training", _MACHINE_PRICE)
        sentence = (
            f"The student saves {_usd(saved)} per 1,000 answers against {against}, but after how "
            f"many answers it pays off is unknown: the cost of the {what} is unknown."
        )
        advice = f"Set {price}."
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
    return BreakEven(against, fixed, saved, answers, sentence + _scores(student, other), advice)


def gather_advice(break_evens: Sequence[BreakEven], cost: CostTotal | None) -> list[str]:
    """What would tell more about prices, each once, without what the sentence on the cost says."""
    named = [part for part in (_MACHINE_PRICE, _TOKEN_PRICES) if cost and part in cost.missing]
    advice = dict.fromkeys(line.advice for line in break_evens if line.advice)
    return [text for text in advice if not any(part in text for part in named)]


_MACHINE_PRICE = "evaluate.usd_per_hour, the price of this machine"
_TOKEN_PRICES = "input_usd_per_million and output_usd_per_million of teacher, judge and endpoints"


def total_cost(
    answers: Sequence[Answer],
    data_usd: float | None,
    training_hours: float,
    usd_per_hour: float | None,
    at_once: Mapping[str, int],
    usd_per_1000: float | None,
) -> CostTotal:
    """Sum what a student cost so far.

    Args:
        answers: Every answer of its evaluation, also to perturbed items; a call counts once.
        data_usd: Cost of all replies behind its rows and their scores; None where a price is
            unknown.
        training_hours: Hours of this machine: training, and the teacher where it runs here.
        usd_per_hour: Price of this machine; None where unknown.
        at_once: See `price_answers`.
        usd_per_1000: Price of 1,000 answers of the student; None where unknown.
    """
    each_once = {answer.settings.get("call_id", answer.answer_id): answer for answer in answers}
    hours, paid = training_hours, [data_usd]
    for answer in each_once.values():
        if _is_elsewhere(answer, at_once.get(answer.contestant)):
            paid.append(answer.cost_usd)
        else:
            hours += answer.latency_s / 3600 / at_once.get(answer.contestant, 1)
    machine = 0.0 if hours == 0 else _times(hours, usd_per_hour)
    known = [usd for usd in (*paid, machine) if usd is not None]
    missing = [_MACHINE_PRICE] * (machine is None) + [_TOKEN_PRICES] * (None in paid)
    total = None if missing else sum(known)
    more = " or more" if missing else ""
    machine_time = f" and took {_hours(hours)} of this machine" if hours else ""
    each = "" if usd_per_1000 is None else f"; 1,000 of its answers cost {_usd(usd_per_1000)}"
    unknown = f" Not all prices are known: set {' and '.join(missing)}." if missing else ""
    return CostTotal(
        total_usd=total,
        known_usd=sum(known),
        hours=hours,
        usd_per_1000=usd_per_1000,
        missing=" and ".join(missing),
        sentence=f"So far this student cost {_usd(sum(known))}{more}{machine_time}{each}.{unknown}",
    )


def _is_elsewhere(answer: Answer, at_once: int | None) -> bool:
    """Whether an answer was bought from elsewhere; `at_once` is None of whoever is not behind a
    server on this machine."""
    return at_once is None and "call_id" in answer.settings


def _hours(hours: float) -> str:
    return f"{60 * hours:.1f} minutes" if hours < 1 else f"{hours:,.1f} hours"


def _too_few_batches(line: Economy) -> bool:
    """Whether a price is one of so few batches that nothing tells how it varies; nothing is free
    by chance."""
    return bool(line.usd_per_1000) and line.batches is not None and line.batches < MIN_BATCHES


def _batches(line: Economy) -> str:
    return "by tokens" if line.batches is None else f"timed in {_count_batches(line.batches)}"


def _count_batches(number: int) -> str:
    return f"{number:,} batch{'' if number == 1 else 'es'}"


def _prices_differ(left: Economy, right: Economy) -> bool:
    """Whether two prices differ by more than the times of batches vary."""
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


@dataclass(frozen=True)
class _Price:
    """US dollars per 1,000 answers."""

    usd: float | None
    by: str
    interval: Interval | None = None
    batches: int | None = None


_UNKNOWN = _Price(None, "not known")


def _price(answers: Sequence[Answer], usd_per_hour: float | None, at_once: int | None) -> _Price:
    """The price of a contestant's answers."""
    if not answers:
        return _UNKNOWN
    if any(_is_elsewhere(answer, at_once) for answer in answers):
        costs = [answer.cost_usd for answer in answers if answer.cost_usd is not None]
        if len(costs) < len(answers):
            return _UNKNOWN
        return _Price(1000 * _mean(costs), "tokens")
    if usd_per_hour is None:
        return _UNKNOWN
    factor = 1000 * usd_per_hour / 3600 / (at_once or 1)
    times = [factor * answer.latency_s for answer in answers]
    batch_of = [_batch_of(answer) for answer in answers]
    batches = len(set(batch_of))
    interval = _batch_interval(times, batch_of) if batches >= MIN_BATCHES else None
    return _Price(_mean(times), "machine time", interval, batches)


def _batch_of(answer: Answer) -> str:
    """The batch that an answer's time is a share of.

    Answers of earlier versions do not name it; shares of one batch are equal to the last bit, and
    those of two are not. A server's reply has a time of its own.
    """
    if "call_id" in answer.settings:
        return answer.answer_id
    return str((answer.details or {}).get("batch", answer.latency_s))


def _batch_interval(times: Sequence[float], batch_of: Sequence[str]) -> Interval:
    """Student's interval of the mean over batches of unequal sizes (Cochran, *Sampling Techniques*,
    1977, section 11.8)."""
    from scipy import special

    by_batch = group_values(times, batch_of)
    quantile = float(special.stdtrit(len(by_batch) - 1, (1 + LEVEL) / 2))
    value, half = _mean(times), quantile * float(by_batch.std(ddof=1)) / len(by_batch) ** 0.5
    return Interval(value, max(0.0, value - half), value + half)


def _times(hours: float, usd_per_hour: float | None) -> float | None:
    return None if usd_per_hour is None else hours * usd_per_hour


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0


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
