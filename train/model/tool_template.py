"""Check that a chat template writes tools, tool calls and their results."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from warehouse.records import Message
from warehouse.tool_calls import call_message, result_messages

Render = Callable[[Sequence[Message], Sequence[dict[str, Any]]], str]
"""(messages, tools) -> the text of the conversation."""

_TOOL = {
    "type": "function",
    "function": {
        "name": "probe_tool",
        "description": "probe description",
        "parameters": {
            "type": "object",
            "properties": {"probe_argument": {"type": "string", "description": "probe"}},
            "required": ["probe_argument"],
        },
    },
}


def tools_fault(render: Render) -> str | None:
    """Why a student of this template cannot learn tool calls; None where it can.

    A template that does not know tools leaves them out and says nothing: a student would be trained
    on empty answers.
    """
    asked: list[Message] = [{"role": "user", "content": "probe question"}]
    call = call_message([{"name": "probe_tool", "arguments": {"probe_argument": "probe value"}}])
    results = result_messages(call, ["probe result"])
    for what, messages, mark in (
        ("the tools", asked, "probe_argument"),
        ("tool calls", [*asked, call], "probe value"),
        ("the results of tools", [*asked, call, *results], "probe result"),
    ):
        try:
            text = render(messages, [_TOOL])
        except Exception as error:  # whatever a template of others does with them
            return f"refuses {what} ({str(error).splitlines()[0] if str(error) else 'no reason'})"
        if mark not in text:
            return f"leaves out {what}"
    return None


def tokenizer_tools_fault(tokenizer: Any) -> str | None:
    """The same of a tokenizer's own template."""
    return tools_fault(
        lambda messages, tools: tokenizer.apply_chat_template(
            list(messages), tools=list(tools), tokenize=False
        )
    )


INSTEAD = "use a base that was trained for tools, such as Qwen2.5 or Qwen3"
