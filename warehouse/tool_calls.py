"""Write tool calls as text and as chat messages, and read them back.

In messages they have the form that chat templates take: `tool_calls` with arguments as objects, a
`content` that is empty beside them, and results as messages of the role `tool`. As the text of a
completion they are a JSON list of {"name", "arguments"}.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from warehouse.records import Message

ToolCall = dict[str, Any]
"""{"name": ..., "arguments": {...}}"""


def write_calls(calls: Sequence[Mapping[str, Any]]) -> str:
    """The calls as the text of a completion, names first."""
    plain = [{"name": call["name"], "arguments": call["arguments"]} for call in calls]
    return json.dumps(plain, ensure_ascii=False)


def read_calls(text: str) -> list[ToolCall]:
    """The calls in the text of a completion.

    Raises:
        ValueError: it is no JSON list of calls; the message says what is wrong.
    """
    try:
        calls = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"it is not JSON ({error})") from None
    if not isinstance(calls, list) or not calls or not all(map(_is_call, calls)):
        raise ValueError('it is not a list of {"name": text, "arguments": object}')
    return calls


def call_message(calls: Sequence[Mapping[str, Any]], before: Sequence[Message] = ()) -> Message:
    """The assistant's message with these calls, numbered on from those in the messages before."""
    start = sum(len(message.get("tool_calls") or ()) for message in before)
    return {
        "role": "assistant",
        "content": "",
        "tool_calls": [
            {
                "id": f"call{number:05d}",  # nine letters and digits: some templates want that
                "type": "function",
                "function": {"name": call["name"], "arguments": call["arguments"]},
            }
            for number, call in enumerate(calls, start=start + 1)
        ],
    }


def result_messages(asked: Message, results: Sequence[str]) -> list[Message]:
    """The results of the calls in an assistant's message, one message each."""
    return [
        {
            "role": "tool",
            "tool_call_id": call["id"],
            "name": call["function"]["name"],
            "content": result,
        }
        for call, result in zip(asked["tool_calls"], results, strict=True)
    ]


def text_of(message: Message) -> str:
    """All that a message says: its content and, of an assistant's, its tool calls."""
    content = str(message.get("content") or "")
    calls = [call["function"] for call in message.get("tool_calls") or ()]
    return "\n".join(filter(None, [content, write_calls(calls) if calls else ""]))


def _is_call(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and isinstance(value.get("name"), str)
        and isinstance(value.get("arguments"), dict)
    )
