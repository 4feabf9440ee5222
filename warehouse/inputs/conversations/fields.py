"""Read the fields that rows of several forms share: tools, systems, texts and counts."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from warehouse.errors import DataError
from warehouse.inputs.columns import text_of
from warehouse.inputs.conversations.conversation import Conversation
from warehouse.inputs.message_forms import text_of_content
from warehouse.records import Message

REPLY_COLUMNS = ("completion", "response", "generation", "output", "reply")
"""Columns that hold a reply beside what was asked."""
_SAMPLING = ("temperature", "top_p", "seed", "stop", "response_format")


def conversation_of(values: Mapping[str, Any], messages: list[Message], where: str) -> Conversation:
    """A conversation with what our own exports and similar files say beside the messages."""
    reference = values.get("reference")
    several = reference if isinstance(reference, list) else [reference]
    passage = values.get("passage")
    return Conversation(
        messages=messages,
        source=where,
        tools=tools_of(values, where),
        model=optional_text(values.get("model") or values.get("model_name")),
        finish_reason=str(values.get("finish_reason") or "stop"),
        reference=[text_of(item) for item in several if isinstance(item, str | int | float)],
        passage=passage if isinstance(passage, str) and passage.strip() else None,
    )


def system_of(values: Mapping[str, Any]) -> list[Message]:
    """The system message of a row, where it has one."""
    system = values.get("system")
    is_text = isinstance(system, str) and system.strip()
    return [{"role": "system", "content": system}] if is_text else []


def tools_of(values: Mapping[str, Any], where: str) -> list[dict[str, Any]] | None:
    """The JSON schemas of a row's tools.

    Raises:
        DataError: they are no list of objects.
    """
    tools = values.get("tools")
    if not tools:
        return None
    if not isinstance(tools, list) or not all(isinstance(tool, Mapping) for tool in tools):
        raise DataError(f"{where}: 'tools' is a list of JSON schemas")
    return [dict(tool) for tool in tools]


def text_field(value: Any, name: str, where: str) -> str:
    """The text of a field, also where it stands in parts.

    Raises:
        DataError: it holds something else than text.
    """
    return text_of_content(value, f"{where}: '{name}'")


def optional_text(value: Any) -> str | None:
    """A text with words in it, or None."""
    return value if isinstance(value, str) and value.strip() else None


def token_count(value: Any) -> int:
    """A number of tokens; 0 where it is not known."""
    return int(value) if isinstance(value, int | float) and 0 < value < math.inf else 0


def cost_of(value: Any) -> float | None:
    """US dollars; None where they are not known."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number and 0 <= value < math.inf else None


def object_of(value: Any) -> Mapping[str, Any]:
    """An object; an empty one for anything else, since what is known of a reply is no part of it."""
    return value if isinstance(value, Mapping) else {}


def sampling_of(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a request that shape a reply."""
    return {name: options[name] for name in _SAMPLING if options.get(name) is not None}
