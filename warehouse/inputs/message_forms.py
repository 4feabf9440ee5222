"""Turn messages of OpenAI's and of ShareGPT's form into ours, and back; tool calls included."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from warehouse.errors import DataError
from warehouse.records import Message

_ROLES = {
    **dict.fromkeys(("user", "human", "prompter", "customer"), "user"),
    **dict.fromkeys(("assistant", "gpt", "chatgpt", "bot", "model", "ai"), "assistant"),
    **dict.fromkeys(("system", "developer"), "system"),
    **dict.fromkeys(("tool", "function", "observation", "tool_response", "ipython"), "tool"),
    **dict.fromkeys(("function_call", "tool_call", "tool_calls"), "function_call"),
}
_SHARE_GPT = {"user": "human", "assistant": "gpt", "system": "system", "tool": "observation"}
_KEPT = ("name", "tool_call_id")
"""Further keys of a message; tool calls are read by themselves."""


def read_messages(value: Any, where: str, name: str = "messages") -> list[Message]:
    """Messages of the chat APIs; keys that hold nothing are left out, as a table fills them in.

    Raises:
        DataError: they are no list of messages with a known role and a text.
    """
    if not isinstance(value, list | tuple) or not value:
        raise DataError(f"{where}: '{name}' is a list of {{role, content}}")
    return [_message(message, where, name) for message in value]


def _message(message: Any, where: str, name: str) -> Message:
    if not isinstance(message, Mapping):
        raise DataError(f"{where}: '{name}' is a list of {{role, content}}")
    role = _role(message.get("role"), where)
    if role == "function_call":
        return _call_message(message.get("content"), where, 0)
    read: Message = {
        "role": role,
        "content": text_of_content(message.get("content"), f"{where}: a message"),
    }
    calls = message.get("tool_calls")
    if isinstance(calls, str) and calls.strip():
        calls = _parsed(calls, where)
    if calls:
        if not isinstance(calls, list) or not all(isinstance(call, Mapping) for call in calls):
            raise DataError(f"{where}: 'tool_calls' is a list of objects")
        read["tool_calls"] = [_call(call, where) for call in calls]
    return read | {key: message[key] for key in _KEPT if isinstance(message.get(key), str)}


def text_of_content(content: Any, where: str) -> str:
    """The text of a message; that of its parts stands on lines of their own.

    Raises:
        DataError: it holds something else than text, such as an image.
    """
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if not isinstance(content, list | tuple):
        raise DataError(f"{where} has no text")
    texts = []
    for part in content:
        text = part.get("text") if isinstance(part, Mapping) else part
        if not isinstance(text, str):
            kind = part.get("type", "unknown") if isinstance(part, Mapping) else "unknown"
            raise DataError(f"{where} has a part of type '{kind}'; only texts can be distilled")
        texts.append(text)
    return "\n".join(texts)


def read_share_gpt(value: Any, where: str) -> list[Message]:
    """ShareGPT's turns; `function_call` and `observation` are tool calls and their results.

    Raises:
        DataError: a turn is malformed.
    """
    if not isinstance(value, list | tuple) or not value:
        raise DataError(f"{where}: 'conversations' is a list of {{from, value}}")
    messages: list[Message] = []
    waiting: list[str] = []
    number = 0
    for turn in value:
        if not isinstance(turn, Mapping):
            raise DataError(f"{where}: 'conversations' is a list of {{from, value}}")
        role = _role(turn.get("from", turn.get("role")), where)
        text = turn.get("value", turn.get("content", turn.get("text")))
        if role == "function_call":
            message = _call_message(text, where, number, str(turn.get("text_beside") or ""))
            waiting = [call["id"] for call in message["tool_calls"]]
            number += len(waiting)
            messages.append(message)
            continue
        message = {"role": role, "content": text_of_content(text, f"{where}: a turn")}
        if role == "tool":
            if isinstance(turn.get("name"), str):
                message["name"] = turn["name"]
            if waiting:
                message["tool_call_id"] = waiting.pop(0)
        messages.append(message)
    return messages


def _call_message(value: Any, where: str, number: int, text: str = "") -> Message:
    """The assistant's message of a `function_call` turn: one call, or a list of them."""
    calls = _parsed(value, where) if isinstance(value, str) else value
    several = calls if isinstance(calls, list) else [calls]
    made = []
    for place, call in enumerate(several):
        if not isinstance(call, Mapping) or not isinstance(call.get("name"), str):
            raise DataError(f"{where}: a function_call is {{name, arguments}} in JSON")
        call_id = str(call.get("id") or f"call{number + place + 1:05d}")
        made.append(_call({**call, "id": call_id, "type": "function"}, where))
    return {"role": "assistant", "content": text, "tool_calls": made}


def as_share_gpt(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """Messages as ShareGPT's turns, which LLaMA-Factory reads too.

    A call keeps its id, and a text beside calls stands in `text_beside`; other tools ignore both.
    """
    turns = []
    for message in messages:
        if message.get("tool_calls"):
            calls = [_flat_call(call) for call in message["tool_calls"]]
            value = json.dumps(calls[0] if len(calls) == 1 else calls, ensure_ascii=False)
            turn = {"from": "function_call", "value": value}
            if message["content"]:
                turn["text_beside"] = message["content"]
        else:
            turn = {"from": _SHARE_GPT[message["role"]], "value": message["content"]}
            if "name" in message and message["role"] == "tool":
                turn["name"] = message["name"]
        turns.append(turn)
    return turns


def _flat_call(call: Mapping[str, Any]) -> dict[str, Any]:
    """A tool call as {id, name, arguments}, the arguments as an object."""
    function = call.get("function", call)
    flat = {"name": function["name"], "arguments": function.get("arguments", {})}
    return {"id": call["id"], **flat} if call.get("id") else flat


def _role(value: Any, where: str) -> str:
    role = _ROLES.get(str(value).lower())
    if role is None:
        raise DataError(f"{where} has a message of role '{value}'; known: {', '.join(_ROLES)}")
    return role


def _parsed(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        raise DataError(f"{where}: a tool call is not JSON") from None


def _call(call: Mapping[str, Any], where: str) -> dict[str, Any]:
    """A tool call as chat templates take it: its arguments an object, no keys that hold None."""
    function = call.get("function", call)
    if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
        raise DataError(f"{where}: a tool call has a function with name and arguments")
    arguments = function.get("arguments")
    if isinstance(arguments, str) and arguments.strip():
        arguments = _parsed(arguments, where)
    read = {"function": {"name": function["name"], "arguments": arguments or {}}}
    kept = {key: call[key] for key in ("id", "type") if isinstance(call.get(key), str)}
    return {**kept, "type": "function", **read}
