"""Write tool calls as text and as chat messages, and read them back.

In messages they have the form that chat templates take: `tool_calls` with arguments as objects, a
`content` that is empty beside them, and results as messages of the role `tool`. As the text of a
completion they are a JSON list of {"name", "arguments"}.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from warehouse.records import Message

ToolCall = dict[str, Any]
"""{"name": ..., "arguments": {...}}"""

_MARKS = re.compile(r"</?tool_calls?>|<\|/?tool_calls?\|>|\[/?TOOL_CALLS?\]|<\|python_tag\|>")
"""What chat templates set around calls."""


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


def split_calls(text: str) -> tuple[str, list[ToolCall]]:
    """What a model's reply says beside its calls, and the calls.

    Chat templates set different marks around calls; within them most write JSON objects with `name`
    and `arguments` (Hermes, Qwen, Mistral, SmolLM2) or `parameters` (Llama), or lists of these.
    """
    decoder = json.JSONDecoder()
    calls: list[ToolCall] = []
    beside: list[str] = []
    end = 0
    for match in re.finditer(r"[\[{]", text):
        if match.start() < end:
            continue  # within the call before
        try:
            value, stop = decoder.raw_decode(text, match.start())
        except (ValueError, RecursionError):
            continue
        found = [_as_call(each) for each in (value if isinstance(value, list) else [value])]
        known = [call for call in found if call is not None]
        if known and len(known) == len(found):
            calls += known
            beside.append(text[end : match.start()])
            end = stop
    beside.append(text[end:])
    if not calls:
        return text, []
    return _MARKS.sub("", "".join(beside)).strip(), calls


def show_call(call: Mapping[str, Any]) -> str:
    """A call as a person reads it: weather(city="Oslo", days=2)."""
    arguments = (
        f"{name}={json.dumps(value, ensure_ascii=False)}"
        for name, value in call["arguments"].items()
    )
    return f"{call['name']}({', '.join(arguments)})"


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


def _as_call(value: Any) -> ToolCall | None:
    """A call that a model wrote, in the form of ours; None where a value is none."""
    if not isinstance(value, dict):
        return None
    call = {"name": value.get("name"), "arguments": value.get("arguments", value.get("parameters"))}
    return call if _is_call(call) else None


def _is_call(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and isinstance(value.get("name"), str)
        and isinstance(value.get("arguments"), dict)
    )
