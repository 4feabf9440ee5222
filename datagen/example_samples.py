"""Turn what a recipe yields into samples, and mark what no recipe may call ok."""

from __future__ import annotations

import json
from collections.abc import Sequence

from datagen.recipe import STATUSES, Example, Recipe
from datagen.teacher import REDACTED, REDACTION
from warehouse.canonical_json import is_plain
from warehouse.records import Call, Prompt, Sample
from warehouse.text.finish_reasons import ABORTED, read_finish_reason
from warehouse.text.reasoning import find_control_mark


def sample_of(recipe: Recipe, prompt: Prompt, example: Example, asked: Sequence[Call]) -> Sample:
    """The record of an example; what no recipe may call ok is marked here.

    Args:
        recipe: The recipe that made it.
        prompt: The record of its seed.
        example: The example.
        asked: The calls of its seed so far, in the order in which they were asked.

    Raises:
        ValueError: its status is unknown, or has no reason: a fault of the recipe.
    """
    if example.status not in STATUSES or (example.status != "ok" and not example.reason):
        raise ValueError(
            f"an example has status '{example.status}' and reason {example.reason!r}; statuses are "
            f"{', '.join(STATUSES)}, and each but ok has a reason"
        )
    if (why := _unstorable(example)) is not None:
        example = Example([], "", status="invalid", reason=why)
    status, reason = example.status, example.reason
    calls = sorted(asked, key=lambda call: call.call_id == example.call_id)  # its own the last
    own = [call for call in calls if example.call_id in (None, call.call_id)]
    if status == "ok" and any(read_finish_reason(c.finish_reason) == ABORTED for c in own):
        status, reason = "truncated", "the server aborted the reply before its end"
    if status == "ok" and (mark := find_control_mark(example.completion)) is not None:
        status, reason = "invalid", f"the control mark {mark} is left in the text"
    redacted = any(call.raw.get(REDACTED) for call in calls)
    if status == "ok" and redacted and REDACTION in example.completion:
        reason = f"the reply quoted a key, which was replaced by {REDACTION}"
    return Sample.of(
        prompt,
        call_ids=[call.call_id for call in calls],
        recipe_version=recipe.version,
        completion=example.completion,
        status=status,
        status_reason=reason,
        messages=example.messages,
        question=example.question or None,
        reference=example.reference or None,
        passage=example.passage,
        facts=example.facts or None,
    )


def _unstorable(example: Example) -> str | None:
    """Why no database holds an example; None where one does."""
    texts = [list(example.messages), example.completion, example.question, example.passage]
    try:
        values = [*texts, list(example.reference), example.reason, example.facts]
        if is_plain(values):
            return None
        json.dumps(values, ensure_ascii=False, allow_nan=False).encode()
    except UnicodeEncodeError:
        return "it holds half a character"
    except ValueError:
        return "its facts hold a number that JSON has not"
    return None
