"""Read the lines of a curator cache."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from warehouse.errors import DataError
from warehouse.inputs.conversations.conversation import Conversation
from warehouse.inputs.conversations.fields import (
    cost_of,
    object_of,
    optional_text,
    sampling_of,
    token_count,
)
from warehouse.inputs.message_forms import read_messages


def read_curator(values: Mapping[str, Any], where: str) -> list[Conversation]:
    """A line of a curator cache (`responses_*.jsonl`); its datasets have prompt and response."""
    request = values.get("generic_request")
    if not isinstance(request, Mapping):
        raise DataError(f"{where}: 'generic_request' is an object with 'messages'")
    reply = values.get("response_message")
    if isinstance(reply, Mapping):
        reply = json.dumps(reply, ensure_ascii=False)
    if not isinstance(reply, str):
        errors = values.get("response_errors") or ["no response_message"]
        raise DataError(f"{where}: the request failed ({str(errors)[:200]})")
    usage = object_of(values.get("token_usage"))
    options = object_of(request.get("generation_params"))
    asked = read_messages(request.get("messages"), where)
    return [
        Conversation(
            messages=[*asked, {"role": "assistant", "content": reply}],
            source=where,
            model=optional_text(request.get("model")),
            finish_reason=str(values.get("finish_reason") or "stop"),
            prompt_tokens=token_count(usage.get("input", usage.get("prompt_tokens"))),
            completion_tokens=token_count(usage.get("output", usage.get("completion_tokens"))),
            cost_usd=cost_of(values.get("response_cost")),
            sampling=sampling_of(options),
        )
    ]
