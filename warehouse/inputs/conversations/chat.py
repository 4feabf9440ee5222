"""Read rows of chat messages, and of prompts with completions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from warehouse.inputs.conversations.conversation import Conversation
from warehouse.inputs.conversations.fields import REPLY_COLUMNS, conversation_of, system_of
from warehouse.inputs.message_forms import read_messages


def read_chat(values: Mapping[str, Any], where: str) -> list[Conversation]:
    """OpenAI's messages; a reply may stand in a column of its own after them."""
    messages = read_messages(values.get("messages"), where)
    name = next((name for name in REPLY_COLUMNS if isinstance(values.get(name), str)), None)
    if name and messages[-1]["role"] in ("user", "tool"):
        messages.append({"role": "assistant", "content": values[name]})
    return [conversation_of(values, messages, where)]


def read_prompt_completion(values: Mapping[str, Any], where: str) -> list[Conversation]:
    """TRL's prompt and completion, each a text or a list of messages."""
    prompt = values.get("prompt")
    name = next((name for name in REPLY_COLUMNS if name in values), "completion")
    completion = values.get(name)
    if isinstance(prompt, str):
        prompt = [*system_of(values), {"role": "user", "content": prompt}]
    if isinstance(completion, str):
        completion = [{"role": "assistant", "content": completion}]
    messages = [*read_messages(prompt, where, "prompt"), *read_messages(completion, where, name)]
    return [conversation_of(values, messages, where)]
