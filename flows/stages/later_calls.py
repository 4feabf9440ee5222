"""Estimate the calls of recipes whose later calls follow from earlier replies."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field

from datagen.recipe import PoolRecipe, PromptRecipe
from datagen.teacher import Request
from distill.plan.plan import Plan
from flows.stages.known_prompts import is_counted_ahead
from flows.stages.recipe_run import RecipeRun, replay_engine, run_here
from warehouse.catalog import name_of
from warehouse.db.store import Store
from warehouse.wording import format_count

LEAST_SEEDS = 8
"""Finished seeds from which the calls of the others are drawn; with fewer, the recipe's bounds hold."""
_DRAWS = 200
_TAIL = 0.025


@dataclass
class Later:
    """What a replay of the recorded calls shows of what is left."""

    first: list[Request] = field(default_factory=list)
    """The next request of each unfinished seed."""
    lines: list[str] = field(default_factory=list)
    """Of each recipe: its seeds, and the calls of a seed."""
    seeds: int = 0
    """Of the recipes whose prompts are not known beforehand."""
    finished: int = 0
    """Calls that are recorded already."""
    low: int = 0
    """Calls after the next ones, at the low end."""
    high: int = 0
    steps: int = 1
    """Most calls that one seed makes one after the other."""

    @classmethod
    def of(cls, plans: Sequence[Plan], store: Store) -> Later:
        """Replay the plans' recipes with several calls for each seed."""
        found = cls()
        of_plans = [(plan, recipe) for plan in plans for recipe in plan.datagen.recipe]
        for plan, recipe in of_plans:
            if is_counted_ahead(recipe):
                continue
            before = len(found.first)
            engine = replay_engine(plan, store, found.first)
            run = RecipeRun(plan, recipe, store, engine, run_here)
            done: list[int] = []
            open_: list[int] = []
            for outcomes in run.shards():
                for outcome in outcomes:
                    number = len(outcome.call_runs)
                    (done if outcome.is_finished else open_).append(number)
                    found.finished += number
            least, most = recipe.calls_expected
            name, number = name_of(recipe), len(done) + len(open_)
            calls = (
                format_count(most, "call")
                if least == most
                else f"{least} to {format_count(most, 'call')}"
            )
            wanted = f", {recipe.target:,} ok examples wanted" if recipe.target else ""
            if isinstance(recipe, PoolRecipe):
                seeds = f"{format_count(number, 'seed')} in the rounds known so far"
            else:
                seeds = format_count(number, "seed")
            if not isinstance(recipe, PromptRecipe):
                found.seeds += number
            found.lines.append(f"{name}: {seeds}, {calls} each{wanted}")
            low, high = later_calls(done, open_, least, most, len(found.first) - before)
            found.low, found.high = found.low + low, found.high + high
            found.steps = max(found.steps, most)
        return found


def later_calls(
    done: Sequence[int], open_: Sequence[int], least: int, most: int, known: int
) -> tuple[int, int]:
    """Calls that unfinished seeds make after those that are known: a range.

    Args:
        done: Calls of each finished seed.
        open_: Calls that each unfinished seed has made so far.
        least: The fewest calls of a seed.
        most: The most calls of a seed.
        known: Requests of these seeds that are known: a seed may ask several at once.
    """
    if len(done) < LEAST_SEEDS or not open_:
        low = sum(max(1, least - made) for made in open_)
        high = sum(max(1, most - made) for made in open_)
    else:
        chance = random.Random(0)
        totals = sorted(
            sum(max(1, chance.choice(done) - made) for made in open_) for _ in range(_DRAWS)
        )
        low, high = totals[int(_TAIL * _DRAWS)], totals[-1 - int(_TAIL * _DRAWS)]
    return max(0, low - known), max(0, high - known)
