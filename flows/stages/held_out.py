"""Look a plan's prompts and samples up among its benchmark items."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

from distill.plan.plan import Plan
from flows.stages.known_prompts import prompts_of
from quality.gate.decontaminate import HeldOut, Match, question_of
from quality.gate.held_out_index import HeldOutItem, telling_texts
from warehouse.catalog import name_of
from warehouse.records import Prompt
from warehouse.wording import format_count


def items_of(plan: Plan) -> list[HeldOutItem]:
    """The plan's benchmark items, in the words by which they are compared."""
    return [
        HeldOutItem.of(name_of(benchmark), item)
        for benchmark in plan.evaluate.every_benchmark
        for item in benchmark.items(plan.folder)
    ]


def telling_texts_of(
    plan: Plan, rows: Iterable[tuple[str, str | None]]
) -> list[tuple[str, str | None]]:
    """Question and passage of each benchmark item; blank where a text tells nothing among the rows."""
    return telling_texts(items_of(plan), rows)


def held_out_of(plan: Plan, rows: Iterable[tuple[str, str | None]]) -> HeldOut:
    """Index the plan's benchmark items, among question and passage of the rows that are looked up."""
    return HeldOut(items_of(plan), plan.quality.decontaminate, rows)


def prompts_held_out(plan: Plan) -> Iterator[str]:
    """Describe how many replies the gate would drop, by what is known before they are paid for.

    A reply may itself give an item away, or be the answer that makes an overlap count, so there
    may be more.
    """
    prompts = [prompt for _, prompt in prompts_of(plan)]
    held_out = held_out_of(plan, ((question_of(row), row.passage) for row in prompts))
    matches = [(prompt, match) for prompt in prompts if (match := _match(held_out, prompt))]
    if not matches:
        return
    kinds = ", ".join(
        f"{count} by {kind}" for kind, count in Counter(m.kind for _, m in matches).most_common()
    )
    count = format_count(len(prompts), "prompt")
    yield f"{len(matches)} of {count} would be dropped as held out ({kinds}), such as"
    for prompt, match in matches[:3]:
        asked = " ".join(question_of(prompt).split())[:80]
        yield f"  {asked!r}: {match.benchmark} item {match.item_id[:12]} {match.shown!r}"


def _match(held_out: HeldOut, prompt: Prompt) -> Match | None:
    return held_out.match_text(
        question=question_of(prompt),
        passage=prompt.passage or "",
        reference=prompt.reference,
        others=[str(message["content"]) for message in prompt.student_messages],
    )
