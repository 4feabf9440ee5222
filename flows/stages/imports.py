"""Record the calls behind imported replies, before samples refer to them; makes no calls."""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from datagen.imported_calls import call_as_asked, imported_call, replies_in
from datagen.recipes.imported import Imported
from distill.plan.plan import Plan
from flows.runtime.run import RunContext, versions
from warehouse.db.store import Store
from warehouse.inputs.conversations import Conversation, ConversationReader
from warehouse.records import Call, Run, now
from warehouse.wording import format_count

VERB = "data import"
_AT_ONCE = 2048


@dataclass
class Imports:
    """What an import found in a file and recorded."""

    run_id: str
    rows: int = 0
    conversations: int = 0
    calls: int = 0
    """Different replies, each one call."""
    new: int = 0
    """Calls that were not recorded before."""
    repeated: int = 0
    """Replies that came before in the file, to the same messages; they are imported once."""
    faults: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    forms: Counter[str] = field(default_factory=Counter)
    models: Counter[str] = field(default_factory=Counter)

    def notice(self, reader: ConversationReader) -> None:
        """Take over what the reader counted."""
        self.rows, self.faults, self.forms = reader.rows, reader.faults, reader.forms
        self.notes = list(reader.notes)
        if reader.trimmed:
            number = format_count(reader.trimmed, "conversation")
            self.notes.append(
                f"{number} went on after the last reply; what was asked then is left out"
            )

    def repeated_lines(self) -> list[str]:
        """How many replies of the file are left out, since they came before in it."""
        if not self.repeated:
            return []
        number = format_count(self.repeated, "reply")
        return [f"{number} came before in the file, to the same messages; each is imported once"]

    def as_json(self) -> dict[str, Any]:
        """For `--json`."""
        return {
            "run_id": self.run_id,
            "rows": self.rows,
            "conversations": self.conversations,
            "calls": self.calls,
            "calls_new": self.new,
            "repeated": self.repeated,
            "malformed": len(self.faults),
            "faults": self.faults,
            "forms": dict(self.forms),
            "models": dict(self.models.most_common()),
            "notes": self.notes,
        }


def record_imports(context: RunContext) -> None:
    """Record the calls of the plan's imported replies that are not recorded, and tell what is left out."""
    for recipe in context.plan.datagen.recipe:
        if not isinstance(recipe, Imported):
            continue
        imports = import_calls(context.plan, context.store, recipe)
        context.tell(
            f"{recipe.file}: {note}" for note in [*imports.notes, *imports.repeated_lines()]
        )
        if imports.faults:
            number = f"{len(imports.faults):,} of {format_count(imports.rows, 'row')}"
            context.tell([f"{recipe.file}: {number} cannot be used, first: {imports.faults[0]}"])


def import_calls(
    plan: Plan, store: Store, recipe: Imported, cost_usd: float | None = None, as_plan: bool = False
) -> Imports:
    """Record the replies of a file as calls, each once, in a run of their own.

    In a run of their own they are in nobody's budget.

    Args:
        plan: The plan.
        store: Its warehouse; the caller holds its lock.
        recipe: The file, and who gave the replies.
        cost_usd: What all of them cost; shared among them by their tokens. None: not known, or as
            the file says of each.
        as_plan: Whether they are the plan's own teacher's, drawn with the plan's sampling.
    """
    started = now()
    imports = Imports(f"{started:%Y%m%d-%H%M%S}-{plan.name}-import-{secrets.token_hex(2)}")
    reader = recipe.reader(plan.folder)
    calls: dict[str, Call] = {}
    drawn: dict[str, set[str]] = {}
    for conversation in recipe.conversations(reader):
        imports.conversations += 1
        imports.models.update([conversation.model] if conversation.model else [])
        for part in replies_in(conversation, recipe.turns):
            call = (
                _plans_call(plan, part, drawn) if as_plan else imported_call(part, recipe.teacher)
            )
            if call is None or call.call_id in calls:
                imports.repeated += 1
            else:
                calls[call.call_id] = call
    imports.notice(reader)
    imports.calls = len(calls)
    if as_plan:
        known = store.paid_ids([(call.call_id, call.max_tokens) for call in calls.values()])
    else:
        known = set(store.call_ids())
    own = _priced([call for call in calls.values() if call.call_id not in known], cost_usd)
    for start in range(0, len(own), _AT_ONCE):
        several = own[start : start + _AT_ONCE]
        imports.new += store.insert([replace(call, run_id=imports.run_id) for call in several])
    if imports.new:
        counts = {"calls_made": 0, "calls_imported": imports.new}
        store.put_run(
            Run(
                run_id=imports.run_id,
                plan_name=plan.name,
                plan_hash=plan.plan_hash,
                plan=plan.as_json(),
                state="completed",
                git_sha=None,
                versions=versions(),
                summary={"verb": VERB, "overrides": [], "file": recipe.file, "counts": counts},
                started_at=started,
                finished_at=now(),
            )
        )
    return imports


def _plans_call(plan: Plan, conversation: Conversation, drawn: dict[str, set[str]]) -> Call | None:
    """The call under the plan's teacher and sampling; another reply to the same messages is another
    draw. None for a reply that came before."""
    first = call_as_asked(conversation, plan.teacher.identity, plan.datagen.sampling, 0)
    replies = drawn.setdefault(first.call_id, set())
    if conversation.reply in replies:
        return None
    draw = len(replies)
    replies.add(conversation.reply)
    if not draw:
        return first
    return call_as_asked(conversation, plan.teacher.identity, plan.datagen.sampling, draw)


def _priced(calls: Sequence[Call], cost_usd: float | None) -> Sequence[Call]:
    """The calls with their shares of a cost: by tokens where all are known, else in equal parts."""
    if cost_usd is None or not calls:
        return calls
    tokens = [call.prompt_tokens + call.completion_tokens for call in calls]
    weights = tokens if all(tokens) else [1] * len(calls)
    total = sum(weights)
    return [
        replace(call, cost_usd=cost_usd * weight / total)
        for call, weight in zip(calls, weights, strict=True)
    ]
