"""Define `[schedule]`: when a plan runs by itself, and what each tick may change."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import Field, field_validator, model_validator

from distill.plan.sections import Section

Stage = Literal["generate", "curate", "train", "evaluate", "all"]
"""The last stage of a tick; `all` is every stage that the plan has."""
Overlap = Literal["skip", "wait", "cancel"]

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


class RetrainWhen(Section):
    """`[schedule] retrain_when`: how much of the selection must have changed; one of both is enough."""

    new_rows: int = Field(default=200, ge=1)
    """Rows that are kept now and were not when the last student was trained."""
    share: float = Field(default=0.1, gt=0, le=1)
    """Rows that came or went since then, as a share of those that it was trained on, 0..1."""


class DriftSection(Section):
    """`[schedule] drift`: how far new data may be from what was there before."""

    psi: float = Field(default=0.25, gt=0)
    """Population stability index from which a score, a length or a cost has drifted."""
    share: float = Field(default=0.15, gt=0, le=1)
    """Difference of a share (refused, duplicate, kept ...), 0..1, from which it has drifted."""
    least: int = Field(default=30, ge=10)
    """Fewer new samples than so many are not compared: they wait for the next ones."""


class ScheduleSection(Section):
    """`[schedule]`: when a plan runs by itself, and what each tick may change."""

    cron: str | None = None
    """Minute, hour, day, month and weekday, such as "0 3 * * *"; `--cron` goes first."""
    interval: str | None = None
    """Time between two ticks: a number with s, m, h or d, such as "6h"; `--interval` goes first."""
    timezone: str = "UTC"
    """Where the cron schedule, and the days and months of budgets, are counted: an IANA name."""
    stage: Stage = "all"
    """The last stage of a tick; `all` is every stage that the plan has."""
    overlap: Overlap = "skip"
    """What a tick does while another run uses its warehouse: `skip` itself, `wait`, or `cancel` the
    other, if that is a tick, which stops with nothing lost."""
    retrain_when: RetrainWhen = RetrainWhen()
    """How much of the selection must have changed before another student is trained."""
    drift: DriftSection = DriftSection()
    """How far new data may be from what was there before; beyond it nothing is trained."""
    on_promote: str | None = Field(default=None, min_length=1)
    """A command that is run where a student was promoted; no shell reads it. $STILLHOUSE_STUDENT is
    the student's folder."""

    @field_validator("interval")
    @classmethod
    def _is_an_interval(cls, value: str | None) -> str | None:
        if value is not None:
            parse_interval(value)
        return value

    @field_validator("timezone")
    @classmethod
    def _is_a_timezone(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise ValueError(
                'no time zone of this name; give an IANA name, such as "Europe/Berlin" or "UTC"'
            ) from None
        return value

    @model_validator(mode="after")
    def _one_of_both(self) -> ScheduleSection:
        if self.cron is not None and self.interval is not None:
            raise ValueError("cron and interval cannot be combined; leave one of them out")
        return self

    @property
    def zone(self) -> ZoneInfo:
        """The time zone."""
        return ZoneInfo(self.timezone)


def parse_interval(text: str) -> timedelta:
    """The time that "90s", "15m", "6h" or "1d" means.

    Raises:
        ValueError: it is none of them.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smhd])", text.strip())
    if found is None or not float(found[1]):
        raise ValueError(f"'{text}' is no interval; give a number with s, m, h or d, such as 6h")
    return timedelta(**{_UNITS[found[2]]: float(found[1])})
