"""Find held-out items of the plan's files that its recipes ask, too: the gate drops such replies."""

from __future__ import annotations

from distill.plan.plan import Plan
from quality.benchmarks.custom import Custom
from warehouse.errors import PlanError
from warehouse.records import Prompt
from warehouse.text.question_form import comparison_form
from warehouse.wording import format_count


class AskedItems:
    """Looks each prompt up among the items of the plan's benchmark files, which are in memory."""

    def __init__(self, plan: Plan) -> None:
        self._files = [b for b in plan.evaluate.every_benchmark if isinstance(b, Custom)]
        self._items = [
            [_pair(item.row.prompt, item.row.passage) for item in benchmark.items(plan.folder)]
            for benchmark in self._files
        ]
        self._wanted: dict[str, set[str]] = {}
        """Question -> passages."""
        for question, passage in (pair for items in self._items for pair in items):
            self._wanted.setdefault(question, set()).add(passage)
        self._asked: set[tuple[str, str]] = set()

    def see(self, prompt: Prompt) -> None:
        """Look one prompt up."""
        if not self._wanted:
            return
        question = comparison_form(prompt.question)
        passages = self._wanted.get(question)
        if passages and (passage := comparison_form(prompt.passage or "")) in passages:
            self._asked.add((question, passage))

    def refuse(self) -> None:
        """Check that no file has the questions of the prompts that were seen.

        Raises:
            PlanError: half of its items or more are prompts.
        """
        for benchmark, items in zip(self._files, self._items, strict=True):
            equal = sum(item in self._asked for item in items)
            if equal and 2 * equal >= len(items):
                raise PlanError(
                    f"benchmark '{benchmark.label}': {equal} of its "
                    f"{format_count(len(items), 'item')} are also prompts, and the gate drops such "
                    f"replies; name another file than '{benchmark.path}', or split it: the same "
                    "holdout (such as 0.2) in the recipe and in the benchmark"
                )


def _pair(question: str, passage: str | None) -> tuple[str, str]:
    return comparison_form(question), comparison_form(passage or "")
