"""What all runs of a warehouse may still spend today and this month."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from datagen.spending.limits import PeriodCap
from distill.plan.plan import Plan
from warehouse.db.store import Store
from warehouse.records import now


@dataclass(frozen=True)
class Period:
    """A day or a month of the calendar, in the plan's time zone."""

    key: str
    """The plan's key that caps it."""
    begins: datetime
    ends: datetime


def periods_at(moment: datetime, zone: ZoneInfo) -> tuple[Period, Period]:
    """The day and the month of a moment; a day is 23 or 25 hours long where clocks are changed."""
    today = moment.astimezone(zone).date()
    first = today.replace(day=1)
    next_first = (first + timedelta(days=32)).replace(day=1)

    def midnight(day: date) -> datetime:
        return datetime.combine(day, time(), zone).astimezone(UTC)

    return (
        Period("budget_usd_per_day", midnight(today), midnight(today + timedelta(days=1))),
        Period("budget_usd_per_month", midnight(first), midnight(next_first)),
    )


def period_caps(plan: Plan, store: Store) -> list[PeriodCap]:
    """The plan's caps for all runs together, with what was spent of each."""
    caps = []
    for period in periods_at(now(), plan.schedule.zone):
        usd = getattr(plan.datagen, period.key)
        if usd is not None:
            ends = period.ends.astimezone(plan.schedule.zone)
            told = f"{ends:%Y-%m-%d %H:%M} {plan.schedule.timezone}"
            caps.append(PeriodCap(period.key, usd, store.spent_since(period.begins), told))
    return caps
