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


def disturbed(items: Sequence[Item], kind: str) -> list[tuple[Item, str]]:
    """(disturbed item, id of the item that it was), where the perturbation can be applied.

    What distracts an item is a sentence of another item's passage.
    """
    sentences = _sentences(items)
    made = []
    for item in items:
        seen = item.row.passage and item.row.passage in str(item.messages[-1]["content"])
        old = item.row if seen else replace(item.row, passage=None)  # what nobody sees stays
        row = perturbed(old, kind, sentences)
        if row is not None and row != old:
            asked = _reworded(item.messages, old, row)
            made.append((replace(item, item_id=row.row_id, row=row, messages=asked), item.item_id))
    return made


def _sentences(items: Sequence[Item]) -> list[str]:
    passages = (item.row.passage or "" for item in items)
    found = (_SENTENCE.search(passage) for passage in passages)
    return [hit[0].strip() for hit in found if hit]


def _reworded(messages: Sequence[Message], old: Row, new: Row) -> list[Message]:
    """The same conversation about the new row: what stands around its texts stays."""
    *first, last = messages
    text = str(last["content"])
    if old.passage and new.passage:
        text = text.replace(old.passage, new.passage)
    return [*first, {**last, "content": text.replace(old.prompt, new.prompt)}]
