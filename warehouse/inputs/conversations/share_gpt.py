"""Read rows of ShareGPT's turns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from warehouse.inputs.conversations.conversation import Conversation
from warehouse.inputs.conversations.fields import conversation_of, system_of
from warehouse.inputs.message_forms import read_share_gpt


def read_share_gpt_row(values: Mapping[str, Any], where: str) -> list[Conversation]:
    messages = [*system_of(values), *read_share_gpt(values.get("conversations"), where)]
    return [conversation_of(values, messages, where)]
