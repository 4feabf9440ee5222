"""Define plans of named actions, in which later steps use the results of earlier ones."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from pydantic import BaseModel, Field, create_model

_LINE = re.compile(r"\s*([^\s:：]+)\s*[:：]\s*(.+)")


class Action(BaseModel):
    """What can be done with a document."""

    name: str
    description: str


class Actions(BaseModel):
    """The actions that one question needs."""

    actions: list[Action] = Field(max_length=4)


class PlanStep(BaseModel):
    """One action of a plan; later steps may use its result by its name."""

    action: str
    input: str
    result: str


@lru_cache(16)
def plan_model(most: int) -> type[BaseModel]:
    """A plan of at most so many steps, for a structured reply."""
    return create_model("Plan", steps=(list[PlanStep], Field(min_length=1, max_length=most)))


def plan_fault(plan: Any, actions: dict[str, str]) -> str | None:
    """What is wrong with a plan, in words for the teacher."""
    names: set[str] = set()
    for number, step in enumerate(distinct_steps(plan.steps), start=1):
        if action_name(step.action) not in actions:
            known = ", ".join(actions)
            return f"step {number}: there is no action '{step.action}'; the actions are {known}"
        name = step.result.strip()
        if not name or name in names:
            return f"step {number}: its result needs a name of its own, not '{name}'"
        names.add(name)
    return None


def distinct_steps(steps: Sequence[PlanStep]) -> list[PlanStep]:
    """The steps without those that repeat an earlier one in all its parts: they would ask it again."""
    kept: dict[tuple[str, str, str], PlanStep] = {}
    for step in steps:
        kept.setdefault((action_name(step.action), step.input.strip(), step.result.strip()), step)
    return list(kept.values())


def parse_actions(text: str) -> dict[str, str]:
    """The actions of a template, one a line: NAME: what it does."""
    found = (_LINE.fullmatch(line) for line in text.splitlines())
    return {action_name(match[1]): match[2].strip() for match in found if match}


def action_name(text: str) -> str:
    """The name of an action in one form: FIND_EVENTS."""
    return re.sub(r"\W+", "_", text.strip()).strip("_").upper()
