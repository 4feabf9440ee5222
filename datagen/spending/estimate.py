"""Estimate a run's tokens, USD and time before anything is spent, each as a range.

The range comes from recorded calls of the same teacher; where there are none, from stated
assumptions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from statistics import fmean, quantiles, stdev

from datagen.spending.pricing import BYTES_PER_TOKEN, Price, Usage
from warehouse.wording import format_count

LEAST_REPLIES = 8
"""Fewer replies than these teach nothing."""
STANDARD_ERRORS = 3.0
"""Half the width of the range around the mean reply, in standard errors of the total."""
DRIFT = 0.1
"""How much further prompts may differ from those answered; widens that range at both ends."""
SHORTEST_REPLY = 0.05
"""The low end for a reply of unknown length, as a share of max_tokens; the high end is all of it."""
TOKENS_PER_S = (80.0, 20.0)
"""Fast and slow writing of one reply, where no reply was timed."""
START_S = (0.3, 1.0)
"""Fast and slow wait for a reply's first token, where no reply was timed."""
TIME_LOW, TIME_HIGH = 0.8, 1.6
"""The range around the time that the mean latency gives."""


@dataclass(frozen=True)
class Experience:
    """What calls of the same teacher taught."""

    calls: int
    """Number of calls that reported their usage."""
    prompt_ratio: float
    """Real prompt tokens / those counted."""
    completion_p10: float
    """Tokens that a tenth of the replies do not exceed."""
    completion_p50: float
    """Median tokens of a reply."""
    completion_p90: float
    """Tokens that nine tenths of the replies do not exceed."""
    completion_mean: float
    """Mean tokens of a reply."""
    completion_sd: float
    """Standard deviation of the tokens of a reply."""
    latency_s: float
    """Mean seconds of a reply; 0 where none was timed."""

    @classmethod
    def learn(
        cls,
        counted: Sequence[int],
        prompt_tokens: Sequence[int],
        completion_tokens: Sequence[int],
        latency_s: Sequence[float],
    ) -> Experience | None:
        """Learn from calls, one entry each in all four; those without usage are left out.

        Returns:
            None where there is nothing to learn from.
        """
        calls = zip(counted, prompt_tokens, completion_tokens, latency_s, strict=True)
        with_usage = [call for call in calls if call[1] > 0]
        if not with_usage:
            return None
        counted_tokens, real, replies, times = zip(*with_usage, strict=True)
        deciles = (
            quantiles(replies, n=10, method="inclusive") if len(with_usage) > 1 else [*replies] * 9
        )
        return cls(
            calls=len(with_usage),
            prompt_ratio=sum(real) / max(1, sum(counted_tokens)),
            completion_p10=deciles[0],
            completion_p50=deciles[4],
            completion_p90=deciles[8],
            completion_mean=fmean(replies),
            completion_sd=stdev(replies) if len(with_usage) > 1 else 0.0,
            latency_s=fmean([time for time in times if time > 0] or [0.0]),
        )

    def reply_range(self, calls: int) -> tuple[float, float]:
        """The mean length that replies to so many more calls will have, low and high."""
        error = self.completion_sd * math.sqrt(1 / self.calls + 1 / max(1, calls))
        half = STANDARD_ERRORS * error + DRIFT * self.completion_mean
        return self.completion_mean - half, self.completion_mean + half


@dataclass(frozen=True)
class Estimate:
    """What a run will take, before anything is spent. USD is None where no price is known."""

    prompts: int
    """All of the run."""
    paid: int
    """Number of prompts whose calls are recorded."""
    calls: int
    """Those to be made."""
    prompt_tokens: int
    """Of all calls to be made."""
    completion_low: int
    """Of all replies to come, at the low end."""
    completion_high: int
    """The same at the high end."""
    usd_low: float | None
    """Cost at the low end; nothing written to a cache at extra cost."""
    usd_high: float | None
    """Cost at the high end."""
    seconds_low: float
    """Time at the low end."""
    seconds_high: float
    """Time at the high end."""
    basis: str
    """How tokens were counted."""
    priced_as: str
    """The model's name."""
    prices_of: date | None
    """The day of the list price; None where the user gave it, or there is none."""
    in_flight: int
    """Requests open at once."""
    timed: bool
    """Whether the time comes from recorded replies."""
    window_s: float | None = None
    """The time that a batch API takes at most; all else said of the time is then idle."""
    refused: int = 0
    """Number of prompts that were refused for good before; they are not asked again."""
    prompt_tokens_high: int | None = None
    """Of all calls to be made at the high end, where they are not known exactly."""
    later_low: int = 0
    """Calls after the first ones, of recipes with several for each seed, at the low end."""
    later_high: int = 0
    """The same at the high end."""
    steps: int = 1
    """Most calls that one seed makes one after the other."""

    def with_later(self, low: int, high: int, steps: int) -> Estimate:
        """The estimate with calls that follow the first ones.

        Their messages are not known before the replies to the first ones. At the low end each counts
        as much as a first call; at the high end its prompt holds the prompts and replies before it,
        half of the longest conversation on average.

        Args:
            low: Calls after the first ones, at the low end.
            high: The same at the high end.
            steps: Most calls that one seed makes one after the other.
        """
        if not self.calls or not high:
            return self
        fewer, more = low / self.calls, high / self.calls
        grown = more * max(1.0, steps / 2)
        usd_low, usd_high = (
            None if usd is None else usd * (1 + share)
            for usd, share in ((self.usd_low, fewer), (self.usd_high, grown))
        )
        return replace(
            self,
            completion_low=round(self.completion_low * (1 + fewer)),
            completion_high=round(self.completion_high * (1 + more)),
            prompt_tokens_high=round(self.prompt_tokens * (1 + grown)),
            prompt_tokens=round(self.prompt_tokens * (1 + fewer)),
            usd_low=usd_low,
            usd_high=usd_high,
            seconds_low=self.seconds_low * (1 + fewer),
            seconds_high=self.seconds_high * (1 + more),
            later_low=low,
            later_high=high,
            steps=steps,
        )

    def lines(self) -> list[str]:
        """For the terminal."""
        refused = f", {self.refused:,} refused before" if self.refused else ""
        first = (
            f"{format_count(self.prompts, 'prompt')}, {self.paid:,} already paid for{refused}, "
            f"{self.calls:,} to ask"
        )
        if self.later_high:
            later = "-".join(dict.fromkeys(f"{n:,}" for n in (self.later_low, self.later_high)))
            first += f", then {later} calls that follow from the replies"
        if not self.calls:
            return [first]
        out = _range(self.completion_low, self.completion_high)
        time = f"{_time(self.seconds_low, self.seconds_high)} at {self.in_flight:,} in flight"
        time += "" if self.timed else ", speed assumed"
        if self.window_s:
            batches = "a batch" if self.steps == 1 else f"{self.steps} batches one after the other"
            longest = self.window_s * self.steps
            time = f"up to {_time(longest, longest)}, the window of {batches}"
        return [
            first,
            f"tokens in {_range(self.prompt_tokens, self.prompt_tokens_high or self.prompt_tokens)}, out {out} ({self.basis})",
            f"cost   {self._cost()}",
            f"time   {time}",
        ]

    def _cost(self) -> str:
        if self.usd_low is None or self.usd_high is None:
            return (
                f"unknown: no price for model '{self.priced_as}'; give input_usd_per_million "
                "and output_usd_per_million in [teacher]"
            )
        source = f"prices of {self.prices_of}" if self.prices_of else "price given"
        places = 2 if self.usd_high >= 0.1 else 4 if self.usd_high >= 0.001 else 6
        texts = [f"{usd:.{places if usd else 0}f}" for usd in (self.usd_low, self.usd_high)]
        return f"{'-'.join(dict.fromkeys(texts))} USD ({self.priced_as}, {source})"


def estimate(
    *,
    prompts: int,
    paid: int,
    counted: Sequence[int],
    max_tokens: Sequence[int] | int,
    price: Price | None,
    priced_as: str,
    in_flight: int,
    experience: Experience | None,
    requests_per_minute: float | None = None,
    tokens_per_minute: float | None = None,
    with_tokenizer: bool,
    window_s: float | None = None,
    refused: int = 0,
) -> Estimate:
    """Estimate tokens, USD and time of the calls to be made.

    Args:
        prompts: All prompts of the run.
        paid: Number of prompts whose calls are recorded.
        counted: Prompt tokens of each call to be made, by `count_prompt_tokens`.
        max_tokens: Longest reply of each call, or of all.
        price: What a token costs, the batch factor applied.
        priced_as: The model's name, as it is shown.
        in_flight: Requests open at once.
        experience: Learned from recorded calls; fewer than `LEAST_REPLIES` count as none.
        with_tokenizer: Whether `counted` comes from the model's tokenizer.
        window_s: The time that a batch API takes at most, where it is one.
        refused: Number of prompts that were refused for good before.
    """
    calls = len(counted)
    limits = [max_tokens] * calls if isinstance(max_tokens, int) else list(max_tokens)
    known = experience if experience and experience.calls >= LEAST_REPLIES else None
    prompt_tokens = [round(tokens * (known.prompt_ratio if known else 1.0)) for tokens in counted]
    basis = "tokenizer" if with_tokenizer else f"bytes / {BYTES_PER_TOKEN}"
    if known:
        least, most = known.reply_range(calls)
        lows = [min(limit, max(1, math.floor(least))) for limit in limits]
        highs = [min(limit, max(1, math.ceil(most))) for limit in limits]
        span = _range(known.completion_p10, known.completion_p90)
        basis += f", corrected by {format_count(known.calls, 'reply')} of mostly {span}"
    else:
        lows = [max(1, math.floor(limit * SHORTEST_REPLY)) for limit in limits]
        highs = limits
        basis += f", replies of {SHORTEST_REPLY:.0%} to 100% of max_tokens"
    usd_low = usd_high = None
    if price is not None:
        usages = [Usage(tokens, low, 0, 0) for tokens, low in zip(prompt_tokens, lows, strict=True)]
        usd_low = math.fsum(price.cost(usage) for usage in usages)
        usd_high = math.fsum(price.most(*pair) for pair in zip(prompt_tokens, highs, strict=True))
    if known and known.latency_s:
        spans = [known.latency_s * calls * factor for factor in (TIME_LOW, TIME_HIGH)]
    else:
        spans = [
            calls * start + sum(replies) / speed
            for start, replies, speed in zip(START_S, (lows, highs), TOKENS_PER_S, strict=True)
        ]
    at_once = max(1, min(in_flight, calls))
    seconds = [
        max(
            span / at_once,
            60 * calls / (requests_per_minute or math.inf),
            60 * (sum(prompt_tokens) + sum(replies)) / (tokens_per_minute or math.inf),
        )
        for span, replies in zip(spans, (lows, highs), strict=True)
    ]
    return Estimate(
        prompts=prompts,
        paid=paid,
        calls=calls,
        prompt_tokens=sum(prompt_tokens),
        completion_low=sum(lows),
        completion_high=sum(highs),
        usd_low=usd_low,
        usd_high=usd_high,
        seconds_low=seconds[0],
        seconds_high=seconds[1],
        basis=basis,
        priced_as=priced_as,
        prices_of=price.as_of if price else None,
        in_flight=in_flight,
        timed=bool(known and known.latency_s),
        window_s=window_s,
        refused=refused,
    )


def _range(low: float, high: float) -> str:
    units = ((1e9, " G"), (1e6, " M"), (1e3, " k"), (0.0, ""))
    size, unit = next((size or 1.0, unit) for size, unit in units if high >= size)
    texts = [_digits(number / size) for number in (low, high)]
    return "-".join(dict.fromkeys(texts)) + unit


def _time(low: float, high: float) -> str:
    units = ((2 * 86400, 86400, " days"), (2 * 3600, 3600, " h"), (100, 60, " min"))
    size, unit = next(((size, unit) for least, size, unit in units if high >= least), (1, " s"))
    texts = [_digits(max(0.1, seconds / size)) for seconds in (low, high)]
    return "-".join(dict.fromkeys(texts)) + unit


def _digits(number: float) -> str:
    """Two digits at least, no more behind the point than it takes for that."""
    return f"{number:,.0f}" if number >= 10 else f"{number:.1f}".removesuffix(".0")
