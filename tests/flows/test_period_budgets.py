"""Caps of all runs of a warehouse together, by day and month."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from datagen.spending.limits import Budget, PeriodCap, Reservation
from distill.plan.plan import load_plan
from distill.plan.project import open_store
from flows.runtime import period_caps
from flows.runtime.period_caps import periods_at
from flows.stages.generate import generate
from tests.flows.test_budget import write
from tests.flows.test_teacher import colour
from tests.support.fakes import FakeOpenai
from warehouse.db.store import Store
from warehouse.errors import BudgetReached, PlanError
from warehouse.records import Call, Run


def hours(period):
    return (period.ends - period.begins).total_seconds() / 3600


@pytest.mark.parametrize(
    ("moment", "long_h"),
    [("2026-03-29T12:00", 23), ("2026-10-25T12:00", 25), ("2026-07-01T12:00", 24)],
)
def test_a_day_is_as_long_as_the_clocks_make_it(moment, long_h):
    day, month = periods_at(datetime.fromisoformat(f"{moment}Z"), ZoneInfo("Europe/Berlin"))
    assert hours(day) == long_h
    assert month.begins <= day.begins < day.ends <= month.ends


def test_the_last_night_of_a_year_belongs_to_its_own_zone():
    moment = datetime(2026, 12, 31, 23, 30, tzinfo=UTC)
    day, month = periods_at(moment, ZoneInfo("Asia/Tokyo"))
    assert day.begins == datetime(2026, 12, 31, 15, tzinfo=UTC)
    assert month.ends == datetime(2027, 1, 31, 15, tzinfo=UTC)


def test_the_tightest_cap_decides_and_is_named():
    day = PeriodCap("budget_usd_per_day", 5.0, 4.5, "tomorrow")
    month = PeriodCap("budget_usd_per_month", 50.0, 10.0, "next month")
    budget = Budget(usd=2.0, spent_usd=0.25, periods=(day, month))
    assert budget.fits(Reservation(usd=0.5))
    assert not budget.fits(Reservation(usd=0.51))
    assert budget.too_expensive(Reservation(usd=1.9)) is None  # tomorrow it fits
    assert "budget_usd = 2" in str(budget.too_expensive(Reservation(usd=2.1)))
    assert Budget(usd=0.1, periods=(day,)).usd == 0.1
    assert Budget(periods=(PeriodCap("budget_usd_per_day", 5.0, 6.0, "t"),)).usd == 0.0


@pytest.fixture
def plan(tmp_path):
    with FakeOpenai(colour) as server:
        write(tmp_path, server)
        yield tmp_path / "plan.toml"


def spent(store):
    return sum(call.cost_usd for call in store.read(Call))


@pytest.mark.parametrize("key", ["budget_usd_per_day", "budget_usd_per_month"])
def test_runs_of_one_period_share_its_cap_and_the_next_one_goes_on(plan, key, monkeypatch):
    store = open_store(load_plan(plan))
    cap = [f"datagen.{key}=0.01"]
    with pytest.raises(BudgetReached, match=f"{key} = 0.01 is reached") as reached:
        generate(str(plan), cap)
    assert "--set" in reached.value.resume
    assert f"{key}=0.02" not in reached.value.resume  # it goes on by itself
    first = spent(store)
    assert 0 < first <= 0.01
    asked = len(store.read(Call))
    with pytest.raises(BudgetReached, match="spent by all runs"):
        generate(str(plan), [*cap, "datagen.sampling.seed=5"])  # another run
    assert spent(store) <= 0.01
    later = datetime(2027, 3, 2, tzinfo=UTC)
    monkeypatch.setattr(period_caps, "now", lambda: later)
    with suppress(BudgetReached):
        generate(str(plan), cap)
    assert len(store.read(Call)) > asked
    assert spent(store) <= 0.02


def test_a_cap_without_a_price_is_refused(plan):
    lines = plan.read_text().splitlines(keepends=True)
    plan.write_text("".join(line for line in lines if "usd_per_million" not in line))
    with pytest.raises(PlanError, match="budget_usd_per_month = 3 cannot be enforced"):
        load_plan(plan, ["datagen.budget_usd_per_month=3.0"]).require("generate")


def test_neither_cap_nor_schedule_makes_another_plan(plan):
    plain = load_plan(plan).plan_hash
    for other in ("datagen.budget_usd_per_day=1.0", 'schedule.cron="0 3 * * *"'):
        assert load_plan(plan, [other]).plan_hash == plain


def test_what_a_killed_run_lost_counts_in_its_own_month_alone(tmp_path):
    store = Store(tmp_path / "w.duckdb")
    began = datetime(2026, 5, 20, tzinfo=UTC)
    lost = {"lost": {"usd": 0.5}}
    store.insert([Run("r", "p", "h", {}, "killed", None, {}, lost, began, None)])
    assert store.spent_since(datetime(2026, 5, 1, tzinfo=UTC)) == 0.5
    assert store.spent_since(datetime(2026, 6, 1, tzinfo=UTC)) == 0.0
