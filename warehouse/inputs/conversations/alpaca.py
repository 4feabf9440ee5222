"""Read rows of Alpaca's form: instruction, input and output."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from warehouse.errors import DataError
from warehouse.inputs.conversations.conversation import Conversation
from warehouse.inputs.conversations.fields import conversation_of, system_of, text_field


def read_alpaca(values: Mapping[str, Any], where: str) -> list[Conversation]:
    """Instruction, input and output, with system and history where there are any."""
    messages = system_of(values)
    history = values.get("history") or []
    if not isinstance(history, list) or not all(
        isinstance(turn, list | tuple) and len(turn) == 2 for turn in history
    ):
        raise DataError(f"{where}: 'history' is a list of [question, answer]")
    for question, answer in history:
        messages.append({"role": "user", "content": text_field(question, "history", where)})
        messages.append({"role": "assistant", "content": text_field(answer, "history", where)})
    parts = [text_field(values.get(name, ""), name, where) for name in ("instruction", "input")]
    asked = "\n\n".join(part for part in parts if part.strip())
    if not asked:
        raise DataError(f"{where} has an empty 'instruction'")
    name = "output" if "output" in values else "response"
    reply = text_field(values.get(name, ""), name, where)
    messages += [{"role": "user", "content": asked}, {"role": "assistant", "content": reply}]
    return [conversation_of(values, messages, where)]
