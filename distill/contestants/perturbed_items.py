"""Ask a benchmark's items in perturbed forms, each graded as the original item."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from quality.tasks.benchmark import Item
from quality.tasks.perturbations import perturbed
from warehouse.inputs.rows import Row
from warehouse.records import Message

_SENTENCE = re.compile(r"[^.!?]{20,200}[.!?]")


def perturb_items(items: Sequence[Item], kind: str) -> list[tuple[Item, str]]:
    """Pairs of (perturbed item, id of the original), where the perturbation applies.

    A distractor is a sentence of another item's passage.
    """
    sentences = _sentences(items)
    pairs = []
    for item in items:
        # A passage that nobody sees stays as it is.
        original = item.row if item.passage else replace(item.row, passage=None)
        changed = perturbed(original, kind, sentences)
        if changed is not None and changed != original:
            messages = _reworded(item.messages, original, changed)
            new = replace(item, item_id=changed.row_id, row=changed, messages=messages)
            pairs.append((new, item.item_id))
    return pairs


def _sentences(items: Sequence[Item]) -> list[str]:
    passages = (item.row.passage or "" for item in items)
    matches = (_SENTENCE.search(passage) for passage in passages)
    return [match[0].strip() for match in matches if match]


def _reworded(messages: Sequence[Message], old: Row, new: Row) -> list[Message]:
    """The same conversation about the new row; the text around it is unchanged."""
    *first, last = messages
    text = str(last["content"])
    if old.passage and new.passage:
        text = text.replace(old.passage, new.passage)
    return [*first, {**last, "content": text.replace(old.prompt, new.prompt)}]
