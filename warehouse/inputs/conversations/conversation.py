"""Define a finished conversation: its messages, and how its last reply was made."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from warehouse.records import Message
from warehouse.tool_calls import ToolCall, write_calls


@dataclass(frozen=True)
class Conversation:
    """A conversation that ends with a reply, and what is known of how the reply was made."""

    messages: list[Message]
    """All of them; the last one is the assistant's: a text, or tool calls."""
    source: str = ""
    """The file, and the line in it."""
    tools: list[dict[str, Any]] | None = None
    """JSON schemas of the tools that could be called."""
    model: str | None = None
    finish_reason: str = "stop"
    reasoning: str | None = None
    prompt_tokens: int = 0
    """0 where it is not known, as below."""
    completion_tokens: int = 0
    cost_usd: float | None = None
    sampling: dict[str, Any] = field(default_factory=dict)
    reference: list[str] = field(default_factory=list)
    passage: str | None = None

    @property
    def asked(self) -> list[Message]:
        """What the last reply answers."""
        return self.messages[:-1]

    @property
    def reply(self) -> str:
        """The text of the last reply; of tool calls the JSON that a completion has for them."""
        return write_calls(self.calls) if self.calls else str(self.messages[-1]["content"])

    @property
    def calls(self) -> list[ToolCall]:
        """The tool calls of the last reply."""
        return [dict(call["function"]) for call in self.messages[-1].get("tool_calls") or ()]
